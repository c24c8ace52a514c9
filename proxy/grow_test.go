package proxy

import (
	"bytes"
	"fmt"
	"testing"
)

// TestGrowsWhole holds that a blob which is read by ranges becomes whole when
// the policy says so, and that nothing of it is fetched twice.
func TestGrowsWhole(t *testing.T) {
	tests := []struct {
		name    string
		options func(*Options)
		reads   int // of 300 kB each
		whole   bool
	}{
		{"never", func(*Options) {}, 6, false},
		{"always", func(o *Options) { o.FillAfterRanges = 1 }, 1, true},
		{"after ranges, not yet", func(o *Options) { o.FillAfterRanges = 3 }, 2, false},
		{"after ranges", func(o *Options) { o.FillAfterRanges = 3 }, 3, true},
		{"after percent, not yet", func(o *Options) { o.FillAfterPercent = 50 }, 2, false},
		{"after percent", func(o *Options) { o.FillAfterPercent = 50 }, 6, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, tt.options)
			layer := random(3<<20, 11)
			d := g.addBlob("a", layer)
			for i := range tt.reads {
				off := 100_000 + i*400_000
				a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-%d", off, off+299_999))
				if a.status != 206 || !bytes.Equal(a.body, layer[off:off+300_000]) {
					t.Fatalf("range %d: status %d, %d bytes", i, a.status, len(a.body))
				}
			}
			waitFor(t, func() bool {
				_, filling := s.p.filling(s.p.routes().def, d)
				_, err := s.store.Stat(t.Context(), d)
				return !filling && (err == nil) == tt.whole
			})
			g.mu.Lock()
			defer g.mu.Unlock()
			if tt.whole && g.sent > int64(len(layer)) {
				t.Errorf("upstream sent %d bytes of %d", g.sent, len(layer))
			}
			if !tt.whole && g.sent > int64(len(layer)*9/10) {
				t.Errorf("upstream sent %d bytes of %d for ranges", g.sent, len(layer))
			}
		})
	}
}

// TestGrowsFromSpans holds that the spans that are here are not fetched again.
func TestGrowsFromSpans(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := tarGz(t, 300)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	half := table.Span(table.Len() / 2)
	s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", half.Off, len(layer)-1))
	g.mu.Lock()
	before := g.sent
	g.mu.Unlock()
	if a := s.do(t, "GET", path); a.status != 200 || !bytes.Equal(a.body, layer) {
		t.Fatalf("status %d, %d bytes", a.status, len(a.body))
	}
	g.mu.Lock()
	sent := g.sent - before
	g.mu.Unlock()
	if sent > half.Off+chunk {
		t.Errorf("upstream sent %d bytes more; %d were missing", sent, half.Off)
	}
	waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
	if _, err := s.store.Stat(t.Context(), table.Span(0).Digest); err == nil {
		t.Error("a whole layer's missing spans were stored beside it")
	}
}

// TestGrowsFromWhatIsHere holds that spans which were evicted and brought again do
// not count twice: a layer is fetched whole once so much of it is here.
func TestGrowsFromWhatIsHere(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.FillAfterPercent = 50 })
	layer := tarGz(t, 300)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	read := func(from, to int) {
		t.Helper()
		r := fmt.Sprintf("bytes=%d-%d", table.Span(from).Off, table.Span(to).End-1)
		if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", r); a.status != 206 {
			t.Fatalf("status %d", a.status)
		}
	}
	third := table.Len() / 3
	for range 4 {
		read(0, third)
		waitFor(t, func() bool { // for what comes behind the answer
			s.p.mu.Lock()
			defer s.p.mu.Unlock()
			return len(s.p.spanRuns) == 0
		})
		for i := range third + 1 {
			if _, err := s.store.Purge(t.Context(), table.Span(i).Digest); err != nil {
				t.Fatal(err)
			}
		}
	}
	if sum, _ := s.p.readings.get(d); sum.bytes*100 >= 50*int64(len(layer)) {
		t.Errorf("%d bytes are counted of %d", sum.bytes, len(layer))
	}
	if _, err := s.store.Stat(t.Context(), d); err == nil {
		t.Error("it was fetched whole when a third of it was read, four times")
	}
	read(0, 2*third)
	waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
}
