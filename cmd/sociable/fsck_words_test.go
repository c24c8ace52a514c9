package main

import "testing"

// TestInWords: one of something is not several.
func TestInWords(t *testing.T) {
	for n, want := range map[int]string{0: "0 blobs", 1: "1 blob", 2: "2 blobs"} {
		if got := inWords(n, "blob"); got != want {
			t.Errorf("inWords(%d) = %q, want %q", n, got, want)
		}
	}
}
