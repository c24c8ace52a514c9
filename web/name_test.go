package web

import (
	"strings"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestResolveNothing: what was looked for in vain is told.
func TestResolveNothing(t *testing.T) {
	_, store, _ := filled(t)
	for word, want := range map[string]string{
		"sha256:abc":  `meant by "sha256:abc": a digest is sha256: and 64 digits`,
		"redis":       `meant by "redis", with the tag latest`,
		"redis:8":     `meant by "redis:8"`,
		"some/sha256": `meant by "some/sha256", with the tag latest`,
	} {
		err := store.View(t.Context(), func(tx storage.Tx) error {
			_, err := Resolve(tx, word)
			return err
		})
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}
