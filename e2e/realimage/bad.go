package realimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// badBytes is the size of the random part of a bad layer: over the smallest
// layer that is indexed, 10 MiB.
const badBytes = 11 << 20

// encryptedLayer is ocicrypt's suffix to the layer type.
const encryptedLayer = v1.MediaTypeImageLayerGzip + "+encrypted"

// badLayer is a blob that matches its digest and that no index can be offered
// for. write gets the bytes of a good gzip layer to spoil.
type badLayer struct {
	name      string
	mediaType string // "": gzip
	write     func(w io.Writer, good []byte) error
}

var badLayers = []badLayer{
	{"not-gzip", "", func(w io.Writer, _ []byte) error { return random(w, 1) }},
	{"corrupt-gzip", "", func(w io.Writer, good []byte) error {
		bad := bytes.Clone(good)
		bad[len(bad)/3*2] ^= 0x10
		return writeAll(w, bad)
	}},
	{"cut-gzip", "", func(w io.Writer, good []byte) error { return writeAll(w, good[:len(good)-5000]) }},
	{"gzip-junk", "", func(w io.Writer, good []byte) error { return writeAll(w, good, []byte("no member of a gzip stream")) }},
	{"not-tar", "", zipped(func(w io.Writer) error { return random(w, 2) })},
	{"cut-tar", "", zipped(func(w io.Writer) error {
		return errors.Join(header(w, "half", tar.TypeReg, 2*badBytes), random(w, 3))
	})},
	{"tar-checksum", "", zipped(func(w io.Writer) error {
		return errors.Join(file(w, "fine", 4), writeAll(w, bytes.Repeat([]byte{'x'}, 512)), file(w, "lost", 5))
	})},
	{"tar-size", "", zipped(func(w io.Writer) error {
		return errors.Join(header(w, "endless", tar.TypeReg, 1<<62), random(w, 6))
	})},
	{"pax-huge", "", zipped(func(w io.Writer) error {
		return errors.Join(header(w, "PaxHeaders/x", tar.TypeXHeader, 1<<31), random(w, 7))
	})},
	{"pax-global", "", zipped(func(w io.Writer) error {
		const record = "18 comment=by git\n"
		block := make([]byte, 512)
		copy(block, record)
		return errors.Join(header(w, "pax_global_header", tar.TypeXGlobalHeader, int64(len(record))),
			writeAll(w, block), file(w, "file", 8), end(w))
	})},
	{"link-size", "", zipped(func(w io.Writer) error { // the builder takes it, clients find overlapping entries
		return errors.Join(file(w, "a", 9), header(w, "b", tar.TypeLink, 4096), file(w, "c", 10), end(w))
	})},
	{"empty-block", "", func(w io.Writer, _ []byte) error { // the builder takes it, clients find two spans at offset 0
		zw := gzip.NewWriter(w)
		return errors.Join(zw.Flush(), file(zw, "a", 11), end(zw), zw.Close())
	}},
	{"encrypted", encryptedLayer, func(w io.Writer, _ []byte) error { return random(w, 12) }},
}

// writeBad makes a bad layer in blobs.
func writeBad(blobs string, b badLayer, good []byte) (Layer, error) {
	c := plain
	if c.mediaType = b.mediaType; c.mediaType == "" {
		c.mediaType = v1.MediaTypeImageLayerGzip
	}
	return writeLayer(blobs, b.name, c, func(w io.Writer) (int, error) { return 0, b.write(w, good) })
}

func zipped(fill func(io.Writer) error) func(io.Writer, []byte) error {
	return func(w io.Writer, _ []byte) error {
		zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		return errors.Join(fill(zw), zw.Close())
	}
}

func writeAll(w io.Writer, parts ...[]byte) error {
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// random writes badBytes bytes that do not compress, always the same for a seed.
func random(w io.Writer, seed byte) error {
	_, err := io.CopyN(w, rand.NewChaCha8([32]byte{seed}), badBytes)
	return err
}

// file writes a regular file of random bytes, as an entry of a tar.
func file(w io.Writer, name string, seed byte) error {
	return errors.Join(header(w, name, tar.TypeReg, badBytes), random(w, seed)) // badBytes needs no padding
}

func end(w io.Writer) error { return writeAll(w, make([]byte, 1024)) }

// header writes a ustar header that archive/tar would refuse to write.
func header(w io.Writer, name string, typ byte, size int64) error {
	var h [512]byte
	copy(h[0:], name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	if size < 1<<33 {
		copy(h[124:], fmt.Sprintf("%011o", size))
	} else { // base-256
		h[124] = 0x80
		binary.BigEndian.PutUint64(h[128:], uint64(size))
	}
	copy(h[136:], "14000000000\x00        ")
	h[156] = typ
	if typ == tar.TypeLink {
		copy(h[157:], "a")
	}
	copy(h[257:], "ustar\x0000")
	var sum int
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return writeAll(w, h[:])
}

func readLayer(blobs string, l Layer) ([]byte, error) {
	return os.ReadFile(filepath.Join(blobs, l.Digest.Encoded()))
}
