package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestOneCallersLimit holds that a caller whose limit at the upstream is spent
// is held back alone.
func TestOneCallersLimit(t *testing.T) {
	reg := newRegistry(t)
	reg.manifests["v1"] = []byte("{}")
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		switch u, _, _ := r.BasicAuth(); {
		case u == "mallory" && strings.Contains(r.URL.Path, "manifests"):
			w.Header().Set("RateLimit-Remaining", "0;w=21600")
			refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "mallory's pull limit")
			return true
		case u == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "x")
			return true
		}
		return false
	}
	c := newClient(t, reg.URL, func(o *Options) { o.MaxBackoff, o.Backoff = time.Minute, 200*time.Millisecond })
	m, a := c.NewCaller(), c.NewCaller()
	for name, k := range map[string]*Caller{"mallory": m, "alice": a} {
		if err := k.Login(t.Context(), name, "x", repo); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := c.Manifest(As(t.Context(), m), repo, tag("v1")); !IsThrottled(err) || RetryAfter(err) < maxHold-time.Minute {
			t.Errorf("whose limit is spent: %v", err)
		}
		if _, err := c.Manifest(As(t.Context(), a), repo, tag("v1")); err != nil {
			t.Errorf("whose limit is not spent: %v", err)
		}
	}
	if h := c.Health(); h[0].State != "ok" {
		t.Errorf("the endpoint is %v", h[0])
	}
}
