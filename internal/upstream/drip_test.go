package upstream

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// TestDrippingRefusal: a refusal whose body comes byte by byte, each of them in
// time, is not waited for to its end, which it does not have.
func TestDrippingRefusal(t *testing.T) {
	reg := newRegistry(t)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-tick.C:
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				tick.Stop()
				return true
			}
		}
	}
	c := newClient(t, reg.URL, func(o *Options) { o.HeaderTimeout, o.Retries = time.Second, -1 })
	if _, err := c.Manifest(t.Context(), repo, tag("x")); !IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// TestStormEnds: holds that follow one another are waited for up to one bound, and
// then the request is told when to come again.
func TestStormEnds(t *testing.T) {
	reg := newRegistry(t)
	d := reg.addBlob([]byte("x"))
	synctest.Test(t, func(t *testing.T) { // no hold ends before the next one is there, however busy the machine is
		c := newClient(t, reg.URL, func(o *Options) { o.MaxBackoff = 50 * time.Millisecond })
		g := c.ends[0].gate
		hold := func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.held = time.Now().Add(10 * time.Millisecond)
		}
		hold()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { // whoever else asks is told to wait
			defer close(ended)
			for tick := time.NewTicker(time.Millisecond); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					hold()
				}
			}
		}()
		_, err := c.Blob(t.Context(), repo, d, oci.Range{Off: 0, End: -1})
		cancel()
		<-ended
		if !is[*HeldError](err) || !IsThrottled(err) || RetryAfter(err) <= 0 {
			t.Errorf("got %v", err)
		}
	})
}
