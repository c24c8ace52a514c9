package ztoc

import (
	"archive/tar"
	"bytes"
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
	if got, again := fmt.Sprint(b.result.CheckClient()), fmt.Sprint(z.CheckClient()); got != want || again != want {
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
	if got := verdictOf(tarball(t, hs...).result.CheckClient()); got != "reject:hardlink" {
		t.Error(got)
	}
}

// TestManyTargets looks for them a part at a time, and finds what is found when
// they are looked for at once.
func TestManyTargets(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for round := range 60 {
		dead := round % 3
		var hs []tar.Header
		for i := range 300 {
			h := tar.Header{Name: fmt.Sprintf("d%d/%d", i%3, i)}
			if i > 0 && r.IntN(3) > 0 {
				k := r.IntN(i)
				h.Typeflag, h.Linkname = tar.TypeLink, fmt.Sprintf("./d%d/%d", k%3, k)
			}
			hs = append(hs, h)
		}
		for range dead {
			k := 1 + r.IntN(299)
			hs[k].Typeflag, hs[k].Linkname = tar.TypeLink, fmt.Sprintf("d%d/%d", (k+1)%3, k+1+r.IntN(3))
		}
		b := tarball(t, hs...)
		tape := tape{spill: &spill{}}
		walk := tarWalk{entries: &tape, maxEntries: 1000, maxBytes: 1 << 20}
		walk.feed(b.plain(t, Gzip))
		l := newLinksBack()
		l.most = 1 + r.IntN(40)
		l.to = 0 // nothing, so that all is left for another time
		got := fmt.Sprint(l.verdict(&tape, bytes.NewReader(b.ztoc), int64(len(b.ztoc))))
		want := fmt.Sprint(b.result.CheckClient())
		if again := fmt.Sprint(parsed(t, b.ztoc).CheckClient()); got != want || again != want {
			t.Fatalf("at most %d at once:\ngot  %s\nwant %s\nand  %s", l.most, got, want, again)
		}
		if len(l.want.slots) > 128 {
			t.Errorf("%d slots for %d targets at once", len(l.want.slots), l.most)
		}
	}
}
