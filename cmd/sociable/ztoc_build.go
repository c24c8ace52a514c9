package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/ztoc"
)

type ztocBuildFlags struct {
	output      string
	spanSize    int64
	compression string
	json        bool
}

func newZTOCBuildCommand() *cobra.Command {
	var flags ztocBuildFlags
	cmd := &cobra.Command{
		Use:   "build LAYER",
		Short: "Build the zTOC of a layer",
		Long: `Build the zTOC of a layer, a file or - for standard input, and print its digest,
its size and how many spans it has. A layer that has none is refused with the
class of the fault and the offset it was met at.`,
		Example: `  sociable ztoc build layer.tar.gz -o layer.ztoc
  crane blob alpine@sha256:… | sociable ztoc build -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return buildZTOC(cmd, args[0], flags) },
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&flags.output, "output", "o", "", "write the zTOC to `FILE`")
	spanSizeFlag(cmd, &flags.spanSize)
	cmd.Flags().StringVar(&flags.compression, "compression", "auto", "`HOW` the layer is compressed: auto, gzip or uncompressed")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print JSON")
	return cmd
}

// BuiltZTOC is what ztoc build prints as JSON.
type BuiltZTOC struct {
	Digest           digest.Digest `json:"digest"`
	Size             int64         `json:"size"`
	Spans            int           `json:"num_spans"`
	Files            int           `json:"num_files"`
	SpanSize         int64         `json:"span_size"`
	Compression      string        `json:"compression"`
	LayerDigest      digest.Digest `json:"layer_digest"`
	LayerSize        int64         `json:"layer_size"`
	DiffID           digest.Digest `json:"diff_id"`
	UncompressedSize int64         `json:"uncompressed_size"`
	Rejected         string        `json:"rejected_by_clients,omitempty"` // why
}

func buildZTOC(cmd *cobra.Command, path string, flags ztocBuildFlags) error {
	in, size, err := openInput(cmd, path)
	if err != nil {
		return err
	}
	defer in.Close()
	src := bufio.NewReader(in)
	compression, err := compressionOf(flags.compression, src)
	if err != nil {
		return refused(cmd, path, err, flags.json)
	}
	bar := newProgress(cmd, size, "reading "+path)
	r, err := buildFrom(bar.reader(src), flags.spanSize, ztoc.Options{
		Compression: compression, SkipLayerDigest: !flags.json, DiffID: flags.json,
	})
	bar.end()
	if err != nil {
		return refused(cmd, path, err, flags.json)
	}
	defer func() { _ = r.Close() }() // it has been written
	if flags.output != "" {
		if err := writeFile(flags.output, r); err != nil {
			return err
		}
	}
	if flags.json {
		return printJSON(cmd.OutOrStdout(), builtZTOC(r, flags.spanSize, compression))
	}
	if r.ClientVerdict != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "sociable:", r.ClientVerdict)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), r.Digest, r.Size, r.Table.Len())
	return err
}

func builtZTOC(r *ztoc.Result, spanSize int64, c ztoc.Compression) BuiltZTOC {
	b := BuiltZTOC{
		Digest: r.Digest, Size: r.Size, Spans: r.Table.Len(), Files: r.Entries, SpanSize: spanSize, Compression: c.String(),
		LayerDigest: r.LayerDigest, LayerSize: r.LayerSize, DiffID: r.DiffID, UncompressedSize: r.UncompressedSize,
	}
	if r.ClientVerdict != nil {
		b.Rejected = r.ClientVerdict.Error()
	}
	return b
}

// openInput opens a file, or standard input for "-", whose size is -1.
func openInput(cmd *cobra.Command, path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, fi.Size(), nil
}

// compressionOf reads the flag, or the layer's first bytes.
func compressionOf(flag string, src *bufio.Reader) (ztoc.Compression, error) {
	switch flag {
	case "gzip":
		return ztoc.Gzip, nil
	case "uncompressed":
		return ztoc.Uncompressed, nil
	case "auto":
		head, err := src.Peek(4)
		if err != nil && err != io.EOF {
			return 0, err
		}
		return ztoc.Detect(head)
	}
	return 0, usageError{error: fmt.Errorf("--compression is auto, gzip or uncompressed, not %q", flag)}
}

// buildFrom builds the zTOC of what src gives.
func buildFrom(src io.Reader, spanSize int64, o ztoc.Options) (*ztoc.Result, error) {
	b, err := ztoc.NewBuilder(spanSize, o)
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	if _, err := io.Copy(b, src); err != nil {
		return nil, err
	}
	return b.Finish()
}

// refused reports why there is no zTOC, as JSON too where that was asked for.
func refused(cmd *cobra.Command, path string, err error, asJSON bool) error {
	var e *ztoc.Error
	if asJSON && errors.As(err, &e) {
		type fault struct {
			Class  ztoc.Class `json:"class"`
			Offset int64      `json:"offset"`
			Cause  string     `json:"cause"`
		}
		err := printJSON(cmd.OutOrStdout(), map[string]fault{"refused": {e.Class, e.Offset, e.Cause.Error()}})
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// writeFile writes a file, under another name until it is whole.
func writeFile(path string, from io.WriterTo) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = from.WriteTo(f)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
