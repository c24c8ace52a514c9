package bolt_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestUnreadableRows(t *testing.T) {
	paths := map[storage.Meta]string{}
	newMeta := func(t *testing.T) storage.Meta {
		path := filepath.Join(t.TempDir(), "meta.db")
		m := open(t, path, bolt.Options{NoSync: true})
		paths[m] = path
		return m
	}
	storagetest.UnreadableRows(t, newMeta, func(t *testing.T, m storage.Meta) storage.Meta {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		storagetest.SpoilRows(t, paths[m], nil)
		return open(t, paths[m], bolt.Options{NoSync: true})
	})
}

// TestUnreadableRowIsTold: once, with what it is about, however often it is met.
func TestUnreadableRowIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	db := open(t, path, bolt.Options{NoSync: true})
	d := digest.FromString("x")
	put := func(tx storage.Tx) error { return tx.PutBlob(storage.BlobRow{Digest: d, Kind: storage.KindBlob}) }
	if err := db.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	storagetest.SpoilRows(t, path, nil)
	var log bytes.Buffer
	db = open(t, path, bolt.Options{NoSync: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		err := db.View(t.Context(), func(tx storage.Tx) error { return tx.Blobs(func(storage.BlobRow) error { return nil }) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, d.String()) {
		t.Errorf("logged %q, want one line that names %s", got, d)
	}
}
