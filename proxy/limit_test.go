package proxy

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestReducedLayer reads ranges of an indexed layer while it is whole, has it
// evicted, and reads them again: the upstream is not asked.
func TestReducedLayer(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 2<<20, 128<<10)
	g := newRegistry(t)
	limit := l.Row.Size + l.Row.ZTOCSize + 3<<20
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = limit })
	g.addBlob("a", l.Body)
	path := "/v2/up/a/blobs/" + l.Digest().String()
	if a := s.do(t, http.MethodGet, path); digest.FromBytes(a.body) != l.Digest() {
		t.Fatalf("pull: %d, %v", a.status, a.err)
	}
	l.Store(t, s.store)
	ranges := []oci.Range{{Off: 0, End: 10}}
	for _, i := range []int{2, 3, 7, l.Table.Len() - 1} {
		ranges = append(ranges, oci.Range{Off: l.Table.Span(i).Off, End: l.Table.Span(i).End})
	}
	get := func(want string) {
		t.Helper()
		for _, r := range ranges {
			a := s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-%d", r.Off, r.End-1))
			if a.status != http.StatusPartialContent || !bytes.Equal(a.body, l.Body[r.Off:r.End]) || a.header.Get("X-Cache") != want {
				t.Errorf("range %v: %d %s, %d bytes, %v, want %s", r, a.status, a.header.Get("X-Cache"), len(a.body), a.err, want)
			}
		}
	}
	get("hit")
	others := [][]byte{random(3<<19, 4), random(3<<19, 5), random(3<<19, 6)}
	for _, body := range others { // one of them is more than fits
		if a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+g.addBlob("a", body).String()); !bytes.Equal(a.body, body) {
			t.Fatalf("pull another: %d, %v", a.status, a.err)
		}
	}
	if _, err := s.store.Stat(t.Context(), l.Digest()); err == nil {
		t.Fatal("the layer is still whole: nothing was evicted")
	}
	for _, i := range []int{2, 3, 7, l.Table.Len() - 1} { // what is kept comes after the layer has gone
		waitFor(t, func() bool {
			_, err := s.store.Stat(t.Context(), l.Table.Span(i).Digest)
			return err == nil
		})
	}
	g.take()
	get("hit")
	if asked := g.take(); len(asked) > 0 {
		t.Errorf("the upstream was asked for %q", asked)
	}
}

// TestFillsBeyondTheLimit pulls six times what fits, fifty blobs at once, and
// looks at the medium all the while.
func TestFillsBeyondTheLimit(t *testing.T) {
	const blobs, size, limit = 50, 1 << 20, 8 << 20
	g := newRegistry(t)
	dir := t.TempDir()
	s := newServerAt(t, dir, g, nil, func(o *storage.Options) { o.MaxBytes = limit })
	var ds []digest.Digest
	for i := range blobs {
		ds = append(ds, g.addBlob("a", random(size, byte(i+1))))
	}
	var clients sync.WaitGroup
	for _, d := range ds {
		clients.Go(func() {
			a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String())
			if a.status != http.StatusOK || digest.FromBytes(a.body) != d {
				t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	var most int64
	samples := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if n, ok := onMedium(t, dir); ok {
			most, samples = max(most, n), samples+1
		}
	}
	t.Logf("at most %d of %d bytes, in %d samples", most, limit, samples)
	if most > limit || most < limit/2 || samples < 10 {
		t.Errorf("up to %d bytes are on the medium, the limit is %d (%d samples)", most, limit, samples)
	}
	if n := s.store.Usage().Total(); n > limit {
		t.Errorf("%d bytes are counted, the limit is %d", n, limit)
	}
}

// onMedium is what the files of a store take. Files that come and go meanwhile
// make the sum worthless: ok is false then.
func onMedium(t *testing.T, dir string) (n int64, ok bool) {
	t.Helper()
	before := files(dir)
	for _, size := range before {
		n += size
	}
	after := files(dir)
	same := maps.EqualFunc(before, after, func(int64, int64) bool { return true })
	return n, same
}

// files gives the bytes that each file takes, by inode: a name may change.
func files(dir string) map[uint64]int64 {
	sizes := map[uint64]int64{}
	for _, sub := range []string{"partial", "tmp", "blobs"} {
		_ = filepath.WalkDir(filepath.Join(dir, sub), func(name string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil //nolint:nilerr // it is gone
			}
			var st syscall.Stat_t
			if syscall.Lstat(name, &st) == nil {
				sizes[st.Ino] = min(st.Size, st.Blocks*512)
			}
			return nil
		})
	}
	return sizes
}
