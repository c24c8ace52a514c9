package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestSpansStopWithTheLastClient: where transfers stop as the last client leaves,
// those of spans do, and what waited for one is not fetched; while somebody else
// waits for one of them they go on.
func TestSpansStopWithTheLastClient(t *testing.T) {
	for name, stays := range map[string]bool{"nobody stays": false, "somebody stays": true} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.StopOnDisconnect = true })
			layer := tarGz(t, 100)
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			s.do(t, "HEAD", path)
			g.take()
			began, release, ended := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
			g.serveAs(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				began <- struct{}{}
				select {
				case <-release:
					return false
				case <-r.Context().Done():
					ended <- struct{}{}
					return true
				}
			})
			let := sync.OnceFunc(func() { close(release) })
			defer let()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var clients sync.WaitGroup
			clients.Go(func() { _ = getRange(ctx, s, path, 1000, int64(len(layer))-2) })
			<-began
			var got answer
			if stays {
				sp := table.Span(table.Len() / 2)
				clients.Go(func() { got = s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1)) })
				waitFor(t, func() bool { return s.waitingFor(sp.Digest) == 2 })
			}
			leave()
			if !stays {
				clients.Wait()
				<-ended
			} else {
				sp := table.Span(table.Len() / 2)
				waitFor(t, func() bool { return s.waitingFor(sp.Digest) == 1 })
				let()
				clients.Wait()
				if got.status != 206 || got.err != nil || !bytes.Equal(got.body, layer[sp.Off:sp.End]) {
					t.Errorf("who stayed: %d, %d bytes, %v", got.status, len(got.body), got.err)
				}
				if asked := g.take(); len(asked) != 1 {
					t.Errorf("upstream was asked for %q", asked)
				}
			}
			waitFor(t, func() bool {
				s.p.mu.Lock()
				defer s.p.mu.Unlock()
				return len(s.p.spanRuns)+len(s.p.spans) == 0
			})
		})
	}
}

func getRange(ctx context.Context, s *server, path string, first, last int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, last))
	resp, err := s.Client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// waitingFor counts the clients that wait for a span, where they are counted.
func (s *server) waitingFor(d digest.Digest) int {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if fl := s.p.spans[d]; fl != nil {
		return fl.waiting
	}
	return 0
}

// TestStoppedSpanIsAskedForAgain has a client come to a transfer that is being
// stopped, and one leave whose spans had not begun.
func TestStoppedSpanIsAskedForAgain(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.StopOnDisconnect = true })
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	source := func() *spanSource {
		row := storage.LayerRow{Digest: d, SpanSize: testSpan, Size: int64(len(layer))}
		return newSpanSource(s.p, s.p.routes().def, oci.Repo{Upstream: "up", Name: "a"}, row, &table, false)
	}
	ours, theirs := source(), source()
	fl, _ := theirs.flight(table.Span(3).Digest)
	theirs.want([]wantedSpan{{table.Span(3), fl}})
	if ours.start(t.Context(), 3, 3) != outcomeFollow {
		t.Error("ours does not follow")
	}
	theirs.leave()
	if <-fl.done; fl.err != nil {
		t.Errorf("somebody waits for it: %v", fl.err)
	}
	theirs = source()
	fl, _ = theirs.flight(table.Span(5).Digest)
	theirs.want([]wantedSpan{{table.Span(5), fl}})
	theirs.leave()
	<-fl.done
	if fl.err != errStopped { //nolint:errorlint // the very value
		t.Errorf("nobody waits for what did not begin: %v", fl.err)
	}

	fl, _ = theirs.flight(table.Span(7).Digest)
	waits := make(chan error, 1)
	if ours.start(t.Context(), 7, 7) != outcomeFollow {
		t.Error("ours does not follow")
	}
	go func() { waits <- ours.wait(t.Context(), 7) }()
	s.p.landSpan(table.Span(7).Digest, fl, errStopped)
	if err := <-waits; err != nil {
		t.Errorf("after another's was stopped: %v", err)
	}
	b, err := ours.open(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	ours.close()
}
