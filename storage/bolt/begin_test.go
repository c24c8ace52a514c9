package bolt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestCutWhileOpen has the file lose all its bytes while it is in use: every read and
// every write is told so, those that come later and those that run, and it closes.
// Nothing waits for a lock that bbolt left held: that would be for ever.
func TestCutWhileOpen(t *testing.T) {
	read := func(db *bolt.DB) error {
		return db.View(t.Context(), func(storage.Tx) error { return nil })
	}
	write := func(db *bolt.DB) error {
		return db.Update(t.Context(), func(tx storage.Tx) error { return putSome(tx, 1) })
	}
	for _, c := range []struct {
		name  string
		steps []func(*bolt.DB) error
	}{
		{"reads first", []func(*bolt.DB) error{read, read, write, write, read}},
		{"writes first", []func(*bolt.DB) error{write, write, read, read, write}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meta.db")
			whole, err := os.ReadFile(filled(t))
			if err == nil {
				err = os.WriteFile(path, whole, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			db, err := bolt.Open(path, bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			err = db.View(t.Context(), func(storage.Tx) error { // runs while all that happens
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
				for i, step := range c.steps {
					if err := step(db); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "shorter than it says") {
						t.Errorf("step %d: %v, want ErrCorrupt for a short file", i, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("the read that ran: %v", err)
			}
			if err := db.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}
