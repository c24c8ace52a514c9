package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
)

// tapped is an indexer that reads what comes, and hears what is here whole.
type tapped struct {
	noIndexer
	end   chan error
	whole chan digest.Digest
}

func (x *tapped) Tap(_ digest.Digest, _ int64, open func() (io.ReadCloser, error)) {
	go func() {
		r, err := open()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			err = errors.Join(err, r.Close())
		}
		x.end <- err
	}()
}

func (x *tapped) Whole(d digest.Digest) { x.whole <- d }

// TestPurgedUnderFollowers purges a blob that many are being sent: they have the rest
// by the one request that is under way, and neither store nor indexer has any of it.
func TestPurgedUnderFollowers(t *testing.T) {
	const size, first, followers = 4 << 20, 1 << 20, 8
	g := newRegistry(t)
	index := &tapped{end: make(chan error, 1), whole: make(chan digest.Digest, 1)}
	s := newServer(t, g, func(o *Options) {
		o.Indexer = index
		o.Upstreams[0].Registry = patientClient(t, g)
	})
	layer := random(size, 62)
	d := g.addBlob("a", layer)
	purged := make(chan struct{})
	end := sync.OnceFunc(func() { close(purged) })
	defer end()
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(body[:first])
		_ = http.NewResponseController(w).Flush()
		<-purged
		_, _ = w.Write(body[first:])
		return true
	}
	var begun, done sync.WaitGroup
	begun.Add(followers)
	for range followers {
		done.Go(func() {
			if err := s.follow(t, "/v2/up/a/blobs/"+d.String(), layer, begun.Done); err != nil {
				t.Error(err)
			}
		})
	}
	begun.Wait()
	if _, err := s.store.Purge(t.Context(), d); err != nil {
		t.Error(err)
	}
	end()
	done.Wait()
	if n := g.take(); len(n) != 1 {
		t.Errorf("%d upstream requests, want one: %q", len(n), n)
	}
	waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
	if _, err := s.store.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of what was purged: %v", err)
	}
	if err := <-index.end; err == nil || len(index.whole) > 0 {
		t.Errorf("the indexer has read all of it: %v, and was told that it is here: %d", err, len(index.whole))
	}
	if n := testutil.ToFloat64(s.p.metrics.passed); n != 0 {
		t.Errorf("%v were counted as passed on for the store's sake", n)
	}
}

// follow gets want, and calls begun when some of it has come.
func (s *server) follow(t *testing.T, path string, want []byte, begun func()) error {
	begun = sync.OnceFunc(begun)
	defer begun()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got := make([]byte, 100_000)
	if _, err := io.ReadFull(resp.Body, got); err != nil {
		return err
	}
	begun()
	rest, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Equal(append(got, rest...), want) {
		return errors.New("other bytes than upstream's")
	}
	return err
}
