package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

type getFileFlags struct {
	placeFlags
	layer, output string
}

func newZTOCGetFileCommand() *cobra.Command {
	var flags getFileFlags
	cmd := &cobra.Command{
		Use:   "get-file DIGEST|FILE NAME",
		Short: "Read one file out of a layer by its zTOC",
		Long: `Read one file out of a layer by its zTOC, from the spans that hold it alone, and
check these. A zTOC in a file wants its layer named, too; one in the store or in
an OCI layout finds it there; in a store, whole or in spans. A sparse file is
refused: its layer has it without its holes.`,
		Example: `  sociable ztoc get-file layer.ztoc etc/os-release --layer layer.tar.gz
  sociable ztoc get-file sha256:9f3c1a usr/bin/env -o env
  sociable ztoc get-file --layout redis-soci sha256:9f3c1a etc/passwd`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error { return getFile(cmd, args[0], args[1], &flags) },
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&flags.layer, "layer", "", "the layer is in `FILE`, or is the one of this digest")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "-", "write to `FILE` instead of standard output")
	cmd.Flags().Lookup("json").Usage = "with -o: print as JSON what was written"
	return cmd
}

// GotFile is what ztoc get-file prints as JSON.
type GotFile struct {
	File   string        `json:"file"`   // in the layer
	Output string        `json:"output"` // where it was written to
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"` // of its content
}

func getFile(cmd *cobra.Command, word, name string, flags *getFileFlags) error {
	if name == "" {
		return usageError{error: errors.New("the name of the file is empty")}
	}
	out, err := openOutput(cmd, flags.output, word, flags.layer)
	if err != nil {
		return err
	}
	if flags.json && out.stdout != nil {
		return usageError{error: errors.New("--json goes with -o FILE: what is printed is the file")}
	}
	from, err := flags.place()
	if err != nil {
		return err
	}
	z, err := openZTOC(cmd.Context(), word, from)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }() // it was only read
	src, err := layerOf(cmd.Context(), z, flags.layer, from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	h := digest.SHA256.Digester()
	n, err := out.write(extraction{cmd.Context(), z, name, src, h.Hash()})
	if err != nil || !flags.json {
		return err
	}
	return printJSON(cmd.OutOrStdout(), GotFile{name, flags.output, n, h.Digest()})
}

// layerReader is a layer that is open.
type layerReader interface {
	io.ReaderAt
	io.Closer
}

// layerOf opens the layer of a zTOC.
func layerOf(ctx context.Context, z *openedZTOC, word string, from place) (layerReader, error) {
	switch {
	case strings.HasPrefix(word, "sha"):
		return from.layer(ctx, word)
	case word != "":
		f, _, err := openRandom("layer", word)
		return f, err
	case z.layer == "":
		return nil, usageError{error: errors.New("name the layer's file with --layer")}
	}
	return openLayer(from, z)
}

// extraction is a file in a layer.
type extraction struct {
	ctx  context.Context
	z    *openedZTOC
	name string
	src  io.ReaderAt
	hash io.Writer
}

// WriteTo writes the file's bytes.
func (x extraction) WriteTo(w io.Writer) (int64, error) {
	return x.z.Extract(x.ctx, x.name, x.src, io.MultiWriter(w, x.hash))
}
