package ztoc

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

// TestTape reads back what was written, twice: texts that lie across chunks, in
// memory and not, and one that is longer than many of them.
func TestTape(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	tp := tape{spill: &spill{dir: t.TempDir()}}
	if tp.backward().more() {
		t.Error("there is something on an empty tape")
	}
	var want [][]byte
	for i := range 4000 {
		n := r.IntN(2000)
		switch i {
		case 100:
			n = 5 * tapeChunk
		case 3000:
			n = 20*tapeChunk + 1
		case 3001:
			n = 0
		}
		s := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, n/2+1)[:n]
		tp.text(s)
		want = append(want, s)
	}
	if tp.err != nil || tp.spill.end == 0 {
		t.Fatalf("%d bytes spilled, %v", tp.spill.end, tp.err)
	}
	for range 2 {
		b := tp.backward()
		for i := len(want) - 1; i >= 0; i-- {
			if !b.more() {
				t.Fatalf("ends before text %d: %v", i, b.err)
			}
			if got := b.text(); !bytes.Equal(got, want[i]) {
				t.Fatalf("text %d: %d bytes, want %d", i, len(got), len(want[i]))
			}
		}
		if b.more() || b.err != nil {
			t.Errorf("does not end: %v", b.err)
		}
		if len(b.buf) > 22*tapeChunk {
			t.Errorf("a buffer of %d bytes", len(b.buf))
		}
	}
	if err := tp.spill.f.Truncate(tp.spill.end - 1); err != nil {
		t.Fatal(err)
	}
	b := tp.backward()
	for b.more() {
		b.text()
	}
	if b.err == nil {
		t.Error("no error where the file is too short")
	}
	if err := tp.close(); err != nil {
		t.Error(err)
	}
	none := tape{spill: &spill{dir: "/nonexistent"}}
	none.put(make([]byte, tapeChunk*(tapeMemory+2)))
	if !errors.Is(none.err, os.ErrNotExist) {
		t.Errorf("no place to spill to: %v", none.err)
	}
}
