package bolt_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	for name, o := range map[string]bolt.Options{"synced": {}, "not synced": {NoSync: true}} {
		t.Run(name, func(t *testing.T) {
			storagetest.Meta(t, func(t *testing.T) storage.Meta {
				return open(t, filepath.Join(t.TempDir(), "meta.db"), o)
			})
		})
	}
}

func open(t testing.TB, path string, o bolt.Options) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}
