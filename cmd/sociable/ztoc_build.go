package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

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
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error { return buildZTOC(cmd, args[0], flags) },
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&flags.output, "output", "o", "", "write the zTOC to `FILE`; - for standard output")
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
	if !slices.Contains([]string{"auto", "gzip", "uncompressed"}, flags.compression) {
		return usageError{error: fmt.Errorf("--compression is auto, gzip or uncompressed, not %q", flags.compression)}
	}
	if err := checkSpanSize(flags.spanSize); err != nil {
		return err
	}
	out, err := zTOCOutput(cmd, path, flags)
	if err != nil {
		return err
	}
	in, size, err := openInput(cmd, path)
	if err != nil {
		return err
	}
	defer in.Close()
	src := bufio.NewReader(in)
	if _, err := src.Peek(1); err == io.EOF && path == "-" {
		return errors.New("there is no layer on standard input: it is empty")
	}
	compression, err := compressionOf(flags.compression, src)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	bar := newProgress(cmd, size, "reading "+filepath.Base(path))
	r, err := buildFrom(bar.reader(src), flags.spanSize, ztoc.Options{
		Compression: compression, SkipLayerDigest: !flags.json, DiffID: flags.json,
	})
	bar.end()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = r.Close() }() // it has been written
	told := cmd.OutOrStdout()
	if out != nil {
		if _, err := out.write(r); err != nil {
			return err
		}
		if out.stdout != nil {
			told = cmd.ErrOrStderr()
		}
	}
	if flags.json {
		return printJSON(told, builtZTOC(r, flags.spanSize, compression))
	}
	if err := r.CheckClient(); err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "sociable: warning:", err)
	}
	_, err = fmt.Fprintln(told, r.Digest, r.Size, r.Spans)
	return err
}

// zTOCOutput is where the zTOC of the layer in path goes, nil for nowhere.
func zTOCOutput(cmd *cobra.Command, path string, flags ztocBuildFlags) (*output, error) {
	if !cmd.Flags().Changed("output") {
		return nil, nil
	}
	out, err := openOutput(cmd, flags.output, path)
	if err == nil && out.stdout != nil && flags.json {
		err = usageError{error: errors.New("--json goes with -o FILE, or without -o: the zTOC itself is on standard output")}
	}
	return out, err
}

func builtZTOC(r *ztoc.Result, spanSize int64, c ztoc.Compression) BuiltZTOC {
	b := BuiltZTOC{
		Digest: r.Digest, Size: r.Size, Spans: r.Spans, Files: r.Entries, SpanSize: spanSize, Compression: c.String(),
		LayerDigest: r.LayerDigest, LayerSize: r.LayerSize, DiffID: r.DiffID, UncompressedSize: r.UncompressedSize,
	}
	if err := r.CheckClient(); err != nil {
		b.Rejected = err.Error()
	}
	return b
}

// openInput opens a layer, or standard input for "-", whose size is -1.
func openInput(cmd *cobra.Command, path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, nil
	}
	f, fi, err := openFile("layer", path)
	switch {
	case err != nil:
		return nil, 0, err
	case !fi.Mode().IsRegular():
		return f, -1, nil // nobody knows
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
	}
	head, err := src.Peek(512)
	if err != nil && err != io.EOF {
		return 0, err
	}
	return ztoc.Detect(head)
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
