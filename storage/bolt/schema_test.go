package bolt_test

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	db := open(t, path, bolt.Options{})
	second, err := bolt.Open(path, bolt.Options{LockTimeout: time.Millisecond})
	if !errors.Is(err, storage.ErrLocked) {
		t.Fatalf("Open of an open file: %v, %v, want ErrLocked", second, err)
	}
	if !strings.Contains(err.Error(), path) {
		t.Errorf("error %q does not name the file", err)
	}
	if err := db.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	open(t, path, bolt.Options{LockTimeout: time.Millisecond})
}

func TestRowsOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	repo := oci.Repo{Upstream: "u", Name: "n"}
	row := storage.TagRow{Repo: repo, Tag: "t", Digest: digest.FromString("x")}
	db := open(t, path, bolt.Options{})
	if err := db.Update(t.Context(), func(tx storage.Tx) error { return tx.PutTag(row) }); err != nil {
		t.Fatalf("Update: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	err := open(t, path, bolt.Options{}).View(t.Context(), func(tx storage.Tx) error {
		got, err := tx.Tag(repo, "t")
		if got != row {
			t.Errorf("got %+v, want %+v", got, row)
		}
		return err
	})
	if err != nil {
		t.Errorf("View: %v", err)
	}
}

func TestSchema(t *testing.T) {
	version := func(v []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("schema"))
			if err != nil {
				return err
			}
			return b.Put([]byte("version"), v)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*bbolt.Tx) error
		want   error
	}{
		{"as it was", func(*bbolt.Tx) error { return nil }, nil},
		{"newer", version(binary.BigEndian.AppendUint32(nil, 1<<31)), storage.ErrSchema},
		{"unreadable", version([]byte("x")), storage.ErrSchema},
		{"no version, but rows", func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("schema")) }, storage.ErrSchema},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meta.db")
			if err := open(t, path, bolt.Options{}).Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			raw, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatalf("open with bbolt: %v", err)
			}
			if err := errors.Join(raw.Update(c.change), raw.Close()); err != nil {
				t.Fatalf("change with bbolt: %v", err)
			}
			db, err := bolt.Open(path, bolt.Options{})
			if !errors.Is(err, c.want) {
				t.Errorf("Open: %v, want %v", err, c.want)
			}
			if err == nil {
				err = db.Close()
			} else if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
			if c.want == nil && err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}
