package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/ztoc"
)

func newZTOCVerifyCommand() *cobra.Command {
	var flags placeFlags
	cmd := &cobra.Command{
		Use:   "verify LAYER|DIGEST ZTOC|DIGEST",
		Short: "Check that a zTOC is that of a layer",
		Long: `Check that a zTOC is that of a layer: it is built again with the same span size
and compared, and it is seen whether today's clients take it. The layer is a file,
or the digest of one that is whole in the store or in an OCI layout; of digests
the first characters suffice.`,
		Example: `  sociable ztoc verify layer.tar.gz layer.ztoc
  sociable ztoc verify sha256:4f4fb7 sha256:9f3c1a
  sociable ztoc verify --layout redis sha256:4f4fb7 sha256:9f3c1a`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := flags.place()
			if err != nil {
				return err
			}
			z, err := openZTOC(cmd.Context(), args[1], from)
			if err != nil {
				return err
			}
			defer func() { _ = z.Close() }() // it was only read
			v, err := verifyZTOC(cmd, args[0], z, from)
			if err != nil {
				return err
			}
			if flags.json {
				err = printJSON(cmd.OutOrStdout(), v)
			} else if v.fault() == "" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is the zTOC of %s, and clients take it\n", v.Digest, args[0])
			}
			if err == nil && v.fault() != "" {
				err = fmt.Errorf("%s: %s", args[1], v.fault())
			}
			return err
		},
	}
	flags.register(cmd)
	return cmd
}

// VerifiedZTOC is what ztoc verify finds.
type VerifiedZTOC struct {
	Digest   digest.Digest `json:"digest"`
	Match    bool          `json:"match"`                         // the layer's zTOC is this one, byte for byte
	Differs  string        `json:"differs,omitempty"`             // in what, if not
	Rejected string        `json:"rejected_by_clients,omitempty"` // why
}

// fault is what is wrong, "" for nothing.
func (v VerifiedZTOC) fault() string {
	if !v.Match {
		return v.Differs
	}
	return v.Rejected
}

func verifyZTOC(cmd *cobra.Command, path string, z *openedZTOC, from place) (v VerifiedZTOC, err error) {
	f, err := from.layer(cmd.Context(), path)
	if err != nil {
		return v, err
	}
	defer f.Close()
	if v.Digest, err = digest.FromReader(io.NewSectionReader(z.file, 0, z.size)); err != nil {
		return v, err
	}
	switch err := z.CheckClient(); {
	case errors.As(err, new(*ztoc.RejectError)):
		v.Rejected = err.Error()
	case errors.Is(err, ztoc.ErrInvalid):
		v.Differs = err.Error()
		return v, nil
	case err != nil:
		return v, err
	}
	if v.Differs, err = otherLayer(f, z); v.Differs != "" || err != nil {
		return v, err
	}
	bar := newProgress(cmd, z.LayerSize, "reading "+filepath.Base(path))
	r, err := buildFrom(bar.reader(f), z.SpanSize, ztoc.Options{Compression: z.Compression, SkipLayerDigest: true})
	bar.end()
	if err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = r.Close() }() // it has been compared
	if v.Match = r.Digest == v.Digest; !v.Match {
		if v.Differs, err = difference(r, z); errors.Is(err, ztoc.ErrInvalid) {
			v.Differs, err = err.Error(), nil
		}
	} else if err := r.CheckClient(); err != nil {
		v.Rejected = err.Error()
	}
	return v, err
}

// otherLayer says of a layer that is a plain file why it cannot be that of the zTOC,
// as far as that shows before it is read; "" else.
func otherLayer(f *os.File, z *openedZTOC) (string, error) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return "", err
	}
	if fi.Size() != z.LayerSize {
		return otherSize(z, fi.Size()), nil
	}
	head := make([]byte, min(512, fi.Size()))
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	if c, err := ztoc.Detect(head); err == nil && c != z.Compression {
		return fmt.Sprintf("is of a layer with compression %s, this one has %s", z.Compression, c), nil
	}
	return "", nil
}

func otherSize(z *openedZTOC, size int64) string {
	return fmt.Sprintf("is of a layer of %d bytes, this one has %d", z.LayerSize, size)
}

// difference says in what a zTOC differs from the layer's own.
func difference(r *ztoc.Result, z *openedZTOC) (string, error) {
	table, err := z.Table()
	if err != nil {
		return "", err
	}
	own, err := r.Table()
	if err != nil {
		return "", err
	}
	want, err := own.MarshalBinary()
	if err != nil {
		return "", err
	}
	got, err := table.MarshalBinary()
	switch {
	case err != nil:
		return "", err
	case r.LayerSize != z.LayerSize:
		return otherSize(z, r.LayerSize), nil
	case !bytes.Equal(want, got):
		return "its spans are not those of the layer", nil
	case r.Entries != z.NumEntries || r.ArchiveSize != z.ArchiveSize:
		return fmt.Sprintf("lists %d files in %d bytes, the layer has %d in %d", z.NumEntries, z.ArchiveSize, r.Entries, r.ArchiveSize), nil
	}
	return fmt.Sprintf("has the layer's spans, but other bytes, of build tool %q: the layer's is %s", z.BuildTool, r.Digest), nil
}
