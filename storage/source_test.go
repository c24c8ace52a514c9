package storage_test

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPartialsOfTwoSources holds that what one source sent of a blob is never
// found by who asks another.
func TestPartialsOfTwoSources(t *testing.T) {
	s := storagetest.NewStore(t)
	d := digest.FromString("blob")
	for _, tt := range []struct {
		source string
		found  int
	}{{"a", 0}, {"a", 1}, {"b", 0}, {"b", 1}, {"a", 0}} {
		p, err := s.OpenPartialFrom(t.Context(), d, tt.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(p.Have()); got != tt.found {
			t.Errorf("source %s found %d runs, want %d", tt.source, got, tt.found)
		}
		if tt.found == 0 && p.Size() != -1 {
			t.Errorf("source %s found a size of %d", tt.source, p.Size())
		}
		if _, err := p.WriteAt([]byte(tt.source), 0); err != nil {
			t.Fatal(err)
		}
		if err := p.Checkpoint(t.Context(), 4, []oci.Range{{Off: 0, End: 1}}); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
