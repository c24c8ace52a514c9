package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
)

func TestBodyCloseDoesNotDrain(t *testing.T) {
	var sent atomic.Int64
	done := make(chan struct{})
	reg := newRegistry(t)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		defer close(done)
		w.Header().Set("Content-Length", strconv.Itoa(1<<40))
		block := make([]byte, 64<<10)
		for {
			n, err := w.Write(block)
			if sent.Add(int64(n)); err != nil {
				return true
			}
		}
	}
	c := newClient(t, reg.URL)
	b, err := c.Blob(t.Context(), repo, reg.addBlob([]byte("x")), oci.Range{Off: 0, End: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	<-done // the upstream's write failed: the connection is gone
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errClosed) {
		t.Errorf("read after Close gave %d, %v", n, err)
	}
	if c.all.inUse() != 0 || c.bulk.inUse() != 0 {
		t.Errorf("%d and %d slots are still taken", c.all.inUse(), c.bulk.inUse())
	}
}

func TestBodyCloseEndsRead(t *testing.T) {
	data := randomBytes(1000)
	reg := faultyRegistry(t, data, func(w http.ResponseWriter, r *http.Request, data []byte, n int) { stalled(w, r, data, 10) })
	c := newClient(t, reg.URL, func(o *Options) { o.StallTimeout = time.Hour })
	b, err := c.Blob(t.Context(), repo, reg.addBlob(data), oci.Range{Off: 0, End: -1})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	first := make(chan struct{})
	go func() {
		_, _ = io.ReadFull(b, make([]byte, 10))
		close(first)
		_, err := b.Read(make([]byte, 10))
		read <- err
	}()
	<-first
	_ = b.Close()
	if err := <-read; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the read ended with %v", err)
	}
}

func TestBodyEndsWithItsContext(t *testing.T) {
	data := randomBytes(1000)
	reg := faultyRegistry(t, data, func(w http.ResponseWriter, r *http.Request, data []byte, n int) { stalled(w, r, data, 10) })
	c := newClient(t, reg.URL, func(o *Options) { o.StallTimeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	b, err := c.Blob(ctx, repo, reg.addBlob(data), oci.Range{Off: 0, End: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, _ = io.ReadFull(b, make([]byte, 10))
	cancel()
	if _, err := b.Read(make([]byte, 10)); !errors.Is(err, context.Canceled) || IsUnavailable(err) {
		t.Errorf("got %v, want the caller's own cancellation", err)
	}
	if n := reg.count("/blobs/"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// A slow reader is no stalled upstream.
func TestBodyWaitsForItsReader(t *testing.T) {
	data := randomBytes(100_000)
	reg := newRegistry(t)
	c := newClient(t, reg.URL, func(o *Options) { o.StallTimeout = time.Millisecond })
	b, err := c.Blob(t.Context(), repo, reg.addBlob(data), oci.Range{Off: 0, End: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, _ = io.ReadFull(b, make([]byte, 10))
	timer := time.NewTimer(5 * time.Millisecond)
	<-timer.C
	if b.cur.ctx.Err() != nil {
		t.Errorf("the transfer ended while nobody read: %v", context.Cause(b.cur.ctx))
	}
}

func TestConnectionsAreReused(t *testing.T) {
	data := randomBytes(50_000)
	var conns atomic.Int32
	reg := startRegistry(t, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				conns.Add(1)
			}
		}
		s.Start()
	})
	d := reg.addBlob(data)
	reg.manifests["v1"] = []byte("{}")
	c := newClient(t, reg.URL)
	for range 3 {
		for _, r := range []oci.Range{{Off: 0, End: -1}, {Off: 5, End: 40_000}} {
			b, err := c.Blob(t.Context(), repo, d, r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, b, make([]byte, 7_000)); err != nil {
				t.Fatal(err)
			}
			_ = b.Close()
		}
		if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Manifest(t.Context(), repo, tag("none")); !IsNotFound(err) {
			t.Fatal(err)
		}
		if _, err := c.HeadBlob(t.Context(), repo, d); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("made %d connections, want 1", n)
	}
	if got := testutil.ToFloat64(c.metrics.bytes); got < 3*(50_000+39_995) {
		t.Errorf("counted %v bytes", got)
	}
}
