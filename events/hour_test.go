package events

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hourly is a receiver that is away until a time.
type hourly struct {
	until time.Time

	mu       sync.Mutex
	attempts []time.Time // while it was away
	tags     []string
	last     time.Time // when the last event came
}

func (h *hourly) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		h.attempts = append(h.attempts, time.Now())
		return nil, errors.New("connection refused")
	}
	var e struct{ Events []record }
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		return nil, err
	}
	for _, x := range e.Events {
		h.tags = append(h.tags, x.Target.Tag)
	}
	h.last = time.Now()
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// TestDownForAnHour has something pushed every ten seconds while the receiver is
// away for an hour, by an endpoint with the usual settings: it gets all of it, each
// once and in order, soon after it is back, and was not asked all the time.
func TestDownForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
		start := time.Now()
		h := &hourly{until: start.Add(time.Hour)}
		x := New(Options{Store: db, Endpoints: []Endpoint{{Name: "ci", URL: "http://ci.invalid/"}}, Client: &http.Client{Transport: h}})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- x.Run(ctx) }()
		var want []string
		for time.Since(start) < time.Hour {
			want = append(want, time.Since(start).String())
			file(t, db, x, push(want[len(want)-1]))
			time.Sleep(10 * time.Second)
		}
		time.Sleep(5 * time.Minute)
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if diff := cmp.Diff(want, h.tags); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if late := h.last.Sub(h.until); late > 2*time.Minute {
			t.Errorf("the last one came %v after the receiver was back", late)
		}
		if n := len(h.attempts); n < 30 || n > 200 {
			t.Errorf("%d attempts in an hour, want about one a minute", n)
		}
		if n := x.endpoints[0].queued.Load(); n != 0 {
			t.Errorf("%d events wait still", n)
		}
	})
}
