package ztoc

import (
	"math/rand/v2"
	"testing"
)

// TestClean compares with path.Clean.
func TestClean(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var ph pathHash
	for range 20_000 {
		name := make([]byte, r.IntN(12))
		for i := range name {
			name[i] = "//..a.b"[r.IntN(7)]
		}
		if got, want := string(ph.clean(name)), cleanPath(string(name)); got != want {
			t.Fatalf("%q: got %q, want %q", name, got, want)
		}
	}
}
