package proxy

import (
	"slices"
	"testing"
)

// brings is a reader that brings so many bytes at a time, or what fits, and notes
// for how many it was asked.
type brings struct {
	next  []int
	asked []int
}

func (b *brings) Read(p []byte) (int, error) {
	b.asked = append(b.asked, len(p))
	n := min(b.next[0], len(p))
	b.next = b.next[1:]
	for i := range n {
		p[i] = byte(len(b.asked))
	}
	return n, nil
}

func TestIntakeWaitsWithASmallBuffer(t *testing.T) {
	p := &Proxy{bufs: newBuffers(chunk), slow: newBuffers(slowChunk)}
	in := p.newIntake()
	defer in.close()
	r := &brings{next: []int{10, slowChunk, chunk, slowChunk + 1, chunk, slowChunk - 1, 0, 1}}
	want := []int{slowChunk, slowChunk, chunk, chunk, chunk, chunk, slowChunk, slowChunk}
	for i, n := range slices.Clone(r.next) {
		got, err := in.read(r)
		if err != nil || len(got) != n {
			t.Fatalf("read %d gave %d bytes, %v; want %d", i, len(got), err, n)
		}
		for _, c := range got {
			if c != byte(i+1) {
				t.Fatalf("read %d gave what read %d brought", i, c-1)
			}
		}
	}
	if !slices.Equal(r.asked, want) {
		t.Errorf("asked for %v, want %v", r.asked, want)
	}
}
