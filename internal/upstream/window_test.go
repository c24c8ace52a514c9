package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSpentLimitsWindow holds that an endpoint whose limit is spent is left alone
// until the limit begins anew, where it says when that is.
func TestSpentLimitsWindow(t *testing.T) {
	for _, tt := range []struct {
		header map[string]string
		most   time.Duration
	}{
		{map[string]string{"RateLimit-Remaining": "0;w=5", "RateLimit-Reset": "3"}, 3 * time.Second},
		{map[string]string{"RateLimit-Remaining": "0;w=5"}, 5 * time.Second},
		{map[string]string{"RateLimit-Remaining": "0", "RateLimit-Limit": "100;w=7"}, 7 * time.Second},
		{map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": "9223372036854775807"}, maxHold},
		{map[string]string{"RateLimit-Remaining": "0;w=0", "RateLimit-Reset": "soon"}, maxHold},
	} {
		reg := newRegistry(t)
		reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "manifests") {
				return false
			}
			for k, v := range tt.header {
				w.Header().Set(k, v)
			}
			refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow")
			return true
		}
		c := newClient(t, reg.URL, func(o *Options) { o.MaxBackoff, o.Backoff = time.Minute, 200*time.Millisecond })
		ctx := t.Context()
		a, err := c.ends[0].ask(ctx, &request{op: opManifest, method: http.MethodGet, repo: repo, path: "manifests/v1"}, false)
		if a != nil || !IsThrottled(err) {
			t.Fatalf("%v: %v", tt.header, err)
		}
		if left, _ := c.ends[0].gate.holding(); left > tt.most || left < tt.most-2*time.Second {
			t.Errorf("%v: held for %v, want %v", tt.header, left, tt.most)
		}
	}
}
