package ztoc

import (
	"archive/tar"
	"bytes"
	"fmt"
	"testing"
)

// TestDeadLinksEnd looks few times at a layer's entries, however many links lead
// nowhere.
func TestDeadLinksEnd(t *testing.T) {
	const links = 3000
	var hs []tar.Header
	for i := range links {
		hs = append(hs, tar.Header{Name: fmt.Sprintf("l%d", i), Typeflag: tar.TypeLink, Linkname: fmt.Sprintf("none%d", i)})
	}
	b := tarball(t, hs...)
	tape := tape{spill: &spill{}}
	walk := tarWalk{entries: &tape, maxEntries: 2 * links, maxBytes: 1 << 20}
	walk.feed(b.plain(t, Gzip))
	l := newLinksBack()
	l.most, l.to = 10, 0 // nothing at first
	err := l.verdict(&tape, bytes.NewReader(b.ztoc), int64(len(b.ztoc)))
	if want := deadLink("l0", "none0"); fmt.Sprint(err) != want.Error() {
		t.Errorf("got %v, want %v", err, want)
	}
	if l.passes > 8 {
		t.Errorf("%d passes for %d links, %d at once", l.passes, links, l.most)
	}
}
