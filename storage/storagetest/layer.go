package storagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// Layer is a real gzip layer with its zTOC.
type Layer struct {
	Body  []byte
	ZTOC  []byte
	Table ztoc.SpanTable
	Row   storage.LayerRow // that says that it is indexed
}

// NewLayer makes a layer of some n compressed bytes, which differ with seed.
func NewLayer(t testing.TB, seed string, n int, spanSize int64) *Layer {
	t.Helper()
	l := &Layer{Body: tarball(t, seed, n)}
	b, err := ztoc.NewBuilder(spanSize, ztoc.Options{SpillDir: t.TempDir(), DiffID: true})
	if err != nil {
		t.Fatalf("build zTOC: %v", err)
	}
	if _, err := b.Write(l.Body); err != nil {
		b.Abort()
		t.Fatalf("build zTOC: %v", err)
	}
	r, err := b.Finish()
	if err != nil {
		t.Fatalf("build zTOC: %v", err)
	}
	defer func() { _ = r.Close() }() // its spilled files; they go with the folder
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil {
		t.Fatalf("write zTOC: %v", err)
	}
	l.ZTOC = z.Bytes()
	if l.Table, err = r.Table(); err != nil {
		t.Fatalf("read span table: %v", err)
	}
	l.Row = storage.LayerRow{
		Digest: r.LayerDigest, SpanSize: spanSize, Size: r.LayerSize, State: storage.LayerIndexed,
		ZTOC: r.Digest, ZTOCSize: r.Size, Spans: r.Spans, DiffID: r.DiffID, Head: bytes.Clone(l.Body[:512]),
	}
	return l
}

// tarball has files of 64 KiB that compress to half.
func tarball(t testing.TB, seed string, n int) []byte {
	t.Helper()
	h := fnv.New64a()
	h.Write([]byte(seed))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	random := make([]byte, 32<<10)
	for i := 0; out.Len() < n; i++ {
		for j := range random {
			random[j] = byte(rng.Uint32())
		}
		body := []byte(hex.EncodeToString(random))
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("file", i), Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Digest is the layer's.
func (l *Layer) Digest() digest.Digest { return l.Row.Digest }

// Store has s hold the layer, whole and indexed, all of it durable.
func (l *Layer) Store(t testing.TB, s *storage.Store) {
	t.Helper()
	zTOC := storage.BlobRow{Digest: l.Row.ZTOC, Kind: storage.KindZTOC, Of: l.Row.Digest}
	err := s.Put(t.Context(), zTOC, l.ZTOC, func(tx storage.Tx) error {
		table, err := l.Table.MarshalBinary()
		if err != nil {
			return err
		}
		if err := tx.PutLayer(l.Row); err != nil {
			return err
		}
		return tx.PutSpans(l.Row.Digest, l.Row.SpanSize, table)
	})
	if err != nil {
		t.Fatalf("store zTOC: %v", err)
	}
	if err := s.Put(t.Context(), storage.BlobRow{Digest: l.Row.Digest, Kind: storage.KindBlob}, l.Body, nil); err != nil {
		t.Fatalf("store layer: %v", err)
	}
}
