package bolt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestDamagedFile damages the file as a medium may: who opens it, reads and writes
// is told so in one line that names the file, and nothing panics.
func TestDamagedFile(t *testing.T) {
	const pageSize = 4096
	rnd := func(b []byte) {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"first pages", func(b []byte) []byte { rnd(b[:2*pageSize]); return b }},
		{"pages behind", func(b []byte) []byte { rnd(b[3*pageSize : 11*pageSize]); return b }},
		{"zeros", func(b []byte) []byte { clear(b[2*pageSize:]); return b }},
		{"all but the first pages", func(b []byte) []byte { rnd(b[2*pageSize:]); return b }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"cut to two pages", func(b []byte) []byte { return b[:2*pageSize] }},
		{"one page", func(b []byte) []byte { return b[:pageSize] }},
		{"a few bytes", func(b []byte) []byte { return b[:10] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meta.db")
			whole, err := os.ReadFile(filled(t))
			if err == nil {
				err = os.WriteFile(path, c.damage(whole), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			err = useAll(t, path)
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with ErrCorrupt and the path", err)
			}
		})
	}
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("bytes, seed ", seed), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meta.db")
			b, err := os.ReadFile(filled(t))
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(seed, seed))
			for range 60 {
				b[2*pageSize+r.IntN(len(b)-2*pageSize)] ^= 0xff
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_ = useAll(t, path) // it may be whole enough
		})
	}
}

// filled is a file with some thousand rows, which nobody has open.
func filled(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "whole.db")
	db := open(t, path, bolt.Options{NoSync: true})
	for range 2 { // so that pages are free
		err := db.Update(t.Context(), func(tx storage.Tx) error {
			for i := range 1000 {
				if err := putSome(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func putSome(tx storage.Tx, i int) error {
	d := digest.FromString(fmt.Sprint(i))
	return errors.Join(
		tx.PutBlob(storage.BlobRow{Digest: d, Size: 1, Kind: storage.KindBlob}), tx.PutManifest(storage.ManifestRow{Digest: d}),
	)
}

// useAll opens a file, reads all of it and writes, and gives the first error.
func useAll(t *testing.T, path string) error {
	db, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		return err
	}
	defer db.Close() // of a damaged file: what it says is no matter
	read := db.View(t.Context(), func(tx storage.Tx) error {
		return errors.Join(
			tx.Blobs(func(storage.BlobRow) error { return nil }), tx.Manifests(func(storage.ManifestRow) error { return nil }),
			tx.Unreadable(func(storage.UnreadableRow) error { return nil }),
		)
	})
	for i := range 3 {
		err := db.Update(t.Context(), func(tx storage.Tx) error { return putSome(tx, i) })
		if read == nil {
			read = err
		}
	}
	return read
}

// TestPanicOfCaller: what a caller's own function panics with goes on up, out of a
// transaction that reads, too.
func TestPanicOfCaller(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("recovered %v, want what was panicked with", r)
		}
	}()
	err := db.View(t.Context(), func(storage.Tx) error { panic("mine") })
	t.Errorf("View returned %v", err)
}
