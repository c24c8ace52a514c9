package proxy

import (
	"bytes"
	"log/slog"
	"net/http"
	"testing"
	"time"
)

// TestComplaints tells each reason at once, and then with how many there were.
func TestComplaints(t *testing.T) {
	var c complaints
	start := time.Unix(1_700_000_000, 0)
	for i, x := range []struct {
		reason string
		after  time.Duration
		times  int
		tell   bool
	}{
		{"full", 0, 1, true},
		{"full", time.Second, 1, false},
		{"failed", time.Second, 1, true},
		{"full", complainEvery - 1, 2, false},
		{"full", complainEvery, 3, true},
		{"full", complainEvery + 1, 1, false},
		{"failed", 10 * complainEvery, 1, true},
	} {
		if times, tell := c.note(x.reason, start.Add(x.after)); times != x.times || tell != x.tell {
			t.Errorf("%d: %s after %v: %d, %t, want %d, %t", i, x.reason, x.after, times, tell, x.times, x.tell)
		}
	}
}

// TestWrongBytesAreToldOnce: by the line that says what came of it, beside the
// request's own.
func TestWrongBytesAreToldOnce(t *testing.T) {
	var log lines
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	layer := random(300_000, 1)
	path := "/v2/up/a/blobs/" + g.addBlob("a", layer).String()
	g.serve = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
		wrong := bytes.Clone(body)
		wrong[7] ^= 1
		_, _ = w.Write(wrong)
		return true
	}
	if a := s.do(t, http.MethodGet, path); a.err == nil && a.status == http.StatusOK {
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
	s.stop()
	log.mu.Lock()
	defer log.mu.Unlock()
	all := log.buf.Bytes()
	if n := bytes.Count(all, []byte("msg=\"upstream sent wrong bytes")); n != 1 || bytes.Contains(all, []byte("blob not fetched")) {
		t.Errorf("logged:\n%s", all)
	}
}
