package storage_test

import (
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestCommitCachedAndDurable(t *testing.T) {
	for _, dur := range []storage.Durability{storage.Cached, storage.Durable} {
		dir := t.TempDir()
		s, stop := storagetest.Open(t, dir, storage.Options{})
		body := storagetest.Bytes("x", 100000)
		d := digest.FromBytes(body)
		w, err := s.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.Write(body)
		if err := w.Commit(t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindBlob}, dur); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			b, err := s.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(b.File())
			if err != nil || digest.FromBytes(got) != d {
				t.Fatal(err)
			}
			b.Close()
			if u := s.Usage(); u.Total() != 100000 {
				t.Fatalf("%+v", u)
			}
			stop()
			s, stop = storagetest.Open(t, dir, storage.Options{})
			if _, err := s.Stat(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindBlob}, body, nil); err != nil {
				t.Fatal(err)
			}
		}
		stop()
	}
}
