package ztoc

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestHashSet compares with a map.
func TestHashSet(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var s hashSet
	m := map[uint64]bool{}
	for i := range 200_000 {
		v := uint64(r.IntN(3000)) << 18 // few homes, many neighbours
		if r.IntN(100) < 50+i/4000 {
			s.remove(v)
			delete(m, max(v, 1))
		} else {
			s.add(v)
			m[max(v, 1)] = true
		}
		w := uint64(r.IntN(3000)) << 18
		if s.n != len(m) || s.has(w) != m[max(w, 1)] {
			t.Fatalf("after %d: %d of %d values, %d: %t", i, s.n, len(m), w, s.has(w))
		}
	}
}

// TestPositions reads back more than is kept in memory.
func TestPositions(t *testing.T) {
	const n = positionsChunk/4*(positionsMemory+2) + 5
	p := positions{spill: &spill{dir: t.TempDir()}}
	defer p.spill.close()
	for i := range uint32(n) {
		if err := p.add(i * 7); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint32(n) {
		if v, err := p.next(); err != nil || v != i*7 {
			t.Fatalf("%d: got %d, %v", i, v, err)
		}
	}
	if p.spill.end == 0 {
		t.Error("nothing was spilled")
	}
}

// TestDeadLinkIsNamed names the first link that leads nowhere, in a table of
// contents of which a part is spilled.
func TestDeadLinkIsNamed(t *testing.T) {
	hs := []tar.Header{{Name: "a"}, {Name: "b", Typeflag: tar.TypeLink, Linkname: "a"}}
	for i := range 3 {
		hs = append(hs, tar.Header{Name: fmt.Sprint("dead", i), Typeflag: tar.TypeLink, Linkname: "none"})
	}
	for i := range 300 {
		hs = append(hs, tar.Header{Name: fmt.Sprint(i), PAXRecords: map[string]string{"a.b": strings.Repeat("x", 10_000)}})
	}
	b := tarball(t, hs...)
	z, err := Parse(bytes.NewReader(b.ztoc), int64(len(b.ztoc)))
	if err != nil {
		t.Fatal(err)
	}
	const want = `clients reject the ztoc (hardlink): "dead0" links to "none", which is not in front of it`
	if got, again := fmt.Sprint(b.result.ClientVerdict), fmt.Sprint(z.CheckClient()); got != want || again != want {
		t.Errorf("got  %s\nand  %s\nwant %s", got, again, want)
	}
}

// TestDeepNames looks for the target of a link among names of many thousands of
// directories: looking at each of them once, not at all bytes for each.
func TestDeepNames(t *testing.T) {
	deep := strings.Repeat("d/", 400_000)
	hs := []tar.Header{{Name: "gone", Typeflag: tar.TypeLink, Linkname: "none"}}
	for range 20 {
		hs = append(hs, tar.Header{Name: deep + "f", Format: tar.FormatGNU})
	}
	hs = append(hs, tar.Header{Name: "late", Typeflag: tar.TypeLink, Linkname: "nowhere"})
	if got := verdictOf(tarball(t, hs...).result.ClientVerdict); got != "reject:hardlink" {
		t.Error(got)
	}
}

// TestTooManyTargets is refused, and not looked for in memory without bound.
func TestTooManyTargets(t *testing.T) {
	var l linksBack
	e := rawEntry{kind: 3}
	var err error
	for i := 0; err == nil && i <= maxTargets; i++ {
		e.str[0], e.str[1] = []byte("name"), fmt.Append(nil, i)
		err = l.entry(&e)
	}
	var refused *Error
	if !errors.As(err, &refused) || refused.Class != ClassLimit || len(l.want.slots) != 1<<20 {
		t.Errorf("%d slots, %v", len(l.want.slots), err)
	}
}
