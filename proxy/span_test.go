package proxy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

const testSpan = 64 << 10

// tarGz is a layer of n files of 20 kB that compress to about half.
func tarGz(t *testing.T, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for i := range n {
		body := []byte(fmt.Sprintf("%x", random(10_000, byte(i+1))))
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("f%03d", i), Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// index files layer as indexed, as the indexer does.
func index(t *testing.T, s *server, layer []byte) (digest.Digest, ztoc.SpanTable) {
	t.Helper()
	b, err := ztoc.NewBuilder(testSpan, ztoc.Options{SpillDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	if _, err := b.Write(layer); err != nil {
		t.Fatal(err)
	}
	res, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	table, err := res.Table()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := table.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(layer)
	err = s.store.Update(t.Context(), func(tx storage.Tx) error {
		row := storage.LayerRow{
			Digest: d, SpanSize: testSpan, Size: int64(len(layer)), State: storage.LayerIndexed,
			ZTOC: res.Digest, ZTOCSize: res.Size, Spans: res.Spans, Head: layer[:512],
		}
		if err := tx.PutLayer(row); err != nil {
			return err
		}
		return tx.PutSpans(d, testSpan, raw)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, table
}

// TestSpansOfAnotherLayer has a layer with the span table of another one, as a damaged
// page may leave it: its ranges are its own bytes.
func TestSpansOfAnotherLayer(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer, other := tarGz(t, 60), tarGz(t, 40)
	d, _ := index(t, s, layer)
	_, table := index(t, s, other)
	raw, err := table.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Update(t.Context(), func(tx storage.Tx) error { return tx.PutSpans(d, testSpan, raw) }); err != nil {
		t.Fatal(err)
	}
	end := len(other) - 1
	for i, body := range [][]byte{other, layer} { // the other's spans are here by then
		repo := []string{"b", "a"}[i]
		g.addBlob(repo, body)
		a := s.do(t, "GET", "/v2/up/"+repo+"/blobs/"+digest.FromBytes(body).String(), "Range", fmt.Sprintf("bytes=600-%d", end))
		if a.status != 206 || !bytes.Equal(a.body, body[600:end+1]) {
			t.Errorf("%s: %d, %d bytes, which differ", repo, a.status, len(a.body))
		}
	}
}

func TestSpansCostOnlyThemselves(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	get := func(a, b int64) answer {
		return s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", a, b))
	}
	if a := get(0, 1); a.status != 206 || a.header.Get("X-Cache") != "hit" || !bytes.Equal(a.body, layer[:2]) {
		t.Errorf("probe: %d %s", a.status, a.header.Get("X-Cache"))
	}
	if got := strings.Join(g.take(), " "); got != "HEAD blobs" { // the right, once
		t.Errorf("probe asked upstream %q", got)
	}
	mid := table.Span(table.Len() / 2)
	for round, outcome := range []string{"span", "hit"} {
		a := get(mid.Off+100, mid.End-100)
		if a.status != 206 || a.header.Get("X-Cache") != outcome || !bytes.Equal(a.body, layer[mid.Off+100:mid.End-99]) {
			t.Fatalf("round %d: %d, X-Cache %s, %d bytes", round, a.status, a.header.Get("X-Cache"), len(a.body))
		}
	}
	g.mu.Lock()
	sent := g.sent
	g.mu.Unlock()
	if want := mid.End - mid.Off; sent != want {
		t.Errorf("upstream sent %d bytes for a span of %d", sent, want)
	}
	if got := g.take(); len(got) != 1 {
		t.Errorf("upstream requests %q, want one", got)
	}
	// all of it, in two ranges, neighbours by one request each side of mid
	a := get(1, int64(len(layer))-2)
	if !bytes.Equal(a.body, layer[1:len(layer)-1]) {
		t.Error("the whole layer read through its spans differs")
	}
	if got := g.take(); len(got) != 2 {
		t.Errorf("upstream requests %q, want two", got)
	}
}

func TestManyClientsOneSpan(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	s.do(t, "HEAD", path)
	g.take()
	sp := table.Span(3)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			a := s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1))
			if a.status != 206 || !bytes.Equal(a.body, layer[sp.Off:sp.End]) {
				t.Errorf("status %d, %d bytes", a.status, len(a.body))
			}
		})
	}
	wg.Wait()
	if got := g.take(); len(got) != 1 {
		t.Errorf("upstream requests %q, want one", got)
	}
}

// TestWrongSpan holds that a span which is wrong once is asked for again, and
// one that stays wrong is never sent.
func TestWrongSpan(t *testing.T) {
	for _, stays := range []bool{false, true} {
		g := newRegistry(t)
		s := newServer(t, g, nil)
		layer := tarGz(t, 60)
		d, table := index(t, s, layer)
		g.addBlob("a", layer)
		path := "/v2/up/a/blobs/" + d.String()
		s.do(t, "HEAD", path)
		sp := table.Span(4)
		bad := bytes.Clone(layer)
		bad[sp.Off+10] ^= 1
		var once sync.Once
		g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			served := stays
			once.Do(func() { served = true })
			if served {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
			}
			return served
		}
		a := s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1))
		if stays && (a.status != 502 || bytes.Contains(a.body, bad[sp.Off:sp.Off+20])) {
			t.Errorf("stays wrong: status %d", a.status)
		}
		if !stays && (a.status != 206 || !bytes.Equal(a.body, layer[sp.Off:sp.End])) {
			t.Errorf("wrong once: status %d, %d bytes", a.status, len(a.body))
		}
	}
}

// TestSpansLikeServeContent reads ranges across and between span borders.
func TestSpansLikeServeContent(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := tarGz(t, 40)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	for i := range table.Len() {
		sp := table.Span(i)
		for _, from := range []int64{sp.Off - 1, sp.Off, sp.Off + 1} {
			for _, to := range []int64{sp.End - 2, sp.End - 1, sp.End, sp.End + 1000} {
				from, to := max(from, 0), min(to, int64(len(layer))-1)
				a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-%d", from, to))
				if a.status != 206 || a.err != nil || !bytes.Equal(a.body, layer[from:to+1]) {
					t.Fatalf("bytes=%d-%d: status %d, %d bytes, %v", from, to, a.status, len(a.body), a.err)
				}
			}
		}
	}
}

// TestForeignSpanFails has a client follow the fetch of a span for another
// upstream's client, which that upstream refuses: it comes from its own then.
func TestForeignSpanFails(t *testing.T) {
	good, other := newRegistry(t), newRegistry(t)
	s := newServer(t, good, second(t, other, "other"))
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	good.addBlob("a", layer)
	other.addBlob("a", layer)
	arrived, refuse := make(chan struct{}), make(chan struct{})
	other.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		close(arrived)
		<-refuse
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	from := func(name string) *spanSource {
		up := s.p.routes().byName[name]
		row := storage.LayerRow{Digest: d, SpanSize: testSpan, Size: int64(len(layer))}
		return newSpanSource(s.p, up, oci.Repo{Upstream: name, Name: "a"}, row, &table, false)
	}
	theirs, ours := from("other"), from("up")
	if out := theirs.start(t.Context(), 2, 2); out != outcomeSpan {
		t.Fatalf("theirs: %v", out)
	}
	<-arrived
	if out := ours.start(t.Context(), 2, 2); out != outcomeFollow {
		t.Fatalf("ours: %v", out)
	}
	close(refuse)
	b, err := ours.open(t.Context(), 2) // which may find theirs over, or join it
	if err != nil {
		t.Fatalf("ours: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestAnothersSpanRefused has a client follow the fetch of a span for another
// caller of the same repository, whom the upstream refuses: it comes in the
// client's own name then. What it is refused itself is its answer.
func TestAnothersSpanRefused(t *testing.T) {
	up := newRegistry(t)
	s := newServer(t, up, nil)
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	up.addBlob("a", layer)
	arrived, refuse := make(chan struct{}), make(chan struct{})
	from := func(reg Registry) *spanSource {
		as := *s.p.routes().byName["up"]
		as.Registry = reg
		row := storage.LayerRow{Digest: d, SpanSize: testSpan, Size: int64(len(layer))}
		return newSpanSource(s.p, &as, oci.Repo{Upstream: "up", Name: "a"}, row, &table, false)
	}
	reg := s.p.routes().byName["up"].Registry
	alice := from(refusedCaller{reg, func() {
		arrived <- struct{}{}
		<-refuse
	}})
	bob := from(reg)
	if out := alice.start(t.Context(), 2, 2); out != outcomeSpan {
		t.Fatalf("alice: %v", out)
	}
	<-arrived
	if out := bob.start(t.Context(), 2, 2); out != outcomeFollow {
		t.Fatalf("bob: %v", out)
	}
	waits := make(chan error, 1)
	go func() { waits <- alice.wait(t.Context(), 2) }()
	close(refuse)
	if err := bob.wait(t.Context(), 2); err != nil {
		t.Errorf("bob, who may read: %v", err)
	}
	if err := <-waits; err != nil && !refusesCaller(err) {
		t.Errorf("alice: %v", err)
	}
	again := from(refusedCaller{reg, func() {}})
	again.start(t.Context(), 3, 3)
	if err := again.wait(t.Context(), 3); err != nil && !refusesCaller(err) {
		t.Errorf("alice, alone: %v", err)
	}
	if _, err := s.store.Stat(t.Context(), table.Span(3).Digest); err == nil {
		t.Error("a span came for somebody who was refused")
	}
}

// refusedCaller is an upstream that refuses whoever asks for a blob, after before.
type refusedCaller struct {
	Registry
	before func()
}

func (r refusedCaller) Blob(context.Context, string, digest.Digest, oci.Range) (*upstream.Body, error) {
	r.before()
	return nil, &oci.Error{Code: errcode.ErrorCodeUnauthorized, Message: "refused"}
}
