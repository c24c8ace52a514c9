package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func newZTOCGetFileCommand() *cobra.Command {
	var flags storeFlags
	var layer, output string
	cmd := &cobra.Command{
		Use:   "get-file DIGEST|FILE NAME",
		Short: "Read one file out of a layer by its zTOC",
		Long: `Read one file out of a layer by its zTOC, from the spans that hold it alone, and
check these. A zTOC in a file wants its layer in a file too; one in the store
finds it there, whole or in spans.`,
		Example: `  sociable ztoc get-file layer.ztoc etc/os-release --layer layer.tar.gz
  sociable ztoc get-file sha256:9f3c1a usr/bin/env -o env`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			z, err := openZTOC(cmd.Context(), args[0], flags.dataDir)
			if err != nil {
				return err
			}
			defer func() { _ = z.Close() }() // it was only read
			src, err := layerOf(z, layer, flags.dataDir)
			if err != nil {
				return err
			}
			defer func() { _ = src.Close() }()
			from := extraction{cmd.Context(), z, args[1], src}
			if output != "" {
				return writeFile(output, from)
			}
			_, err = from.WriteTo(cmd.OutOrStdout())
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&layer, "layer", "", "the layer is in `FILE`")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of standard output")
	cmd.Flags().Lookup("json").Hidden = true // what it prints is the file
	return cmd
}

// layerReader is a layer that is open.
type layerReader interface {
	io.ReaderAt
	io.Closer
}

// layerOf opens the layer of a zTOC.
func layerOf(z *openedZTOC, file, dataDir string) (layerReader, error) {
	switch {
	case file != "":
		return os.Open(file)
	case z.layer == "":
		return nil, usageError{error: errors.New("name the layer's file with --layer")}
	}
	return openLayer(dataDir, z)
}

// extraction is a file in a layer.
type extraction struct {
	ctx  context.Context
	z    *openedZTOC
	name string
	src  io.ReaderAt
}

// WriteTo writes the file's bytes.
func (x extraction) WriteTo(w io.Writer) (int64, error) {
	n, err := x.z.Extract(x.ctx, x.name, x.src, w)
	if err != nil {
		return n, fmt.Errorf("get %s: %w", x.name, err)
	}
	return n, nil
}
