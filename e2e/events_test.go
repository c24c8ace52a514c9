package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
)

// hooks is a receiver of notifications that can be away.
type hooks struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	events []hookEvent
}

type hookEvent struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	Reason string `json:"reason"`
	Target struct {
		Digest     string `json:"digest"`
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
	} `json:"target"`
	Request struct {
		UserAgent string `json:"useragent"`
	} `json:"request"`
}

func newHooks(t *testing.T) *hooks {
	h := &hooks{status: http.StatusOK}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e struct{ Events []hookEvent }
		err := json.NewDecoder(r.Body).Decode(&e)
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case err != nil || r.Header.Get("Content-Type") != "application/vnd.docker.distribution.events.v1+json" ||
			r.Header.Get("X-Key") != "of the test":
			t.Errorf("not an envelope: %v, headers %v", err, r.Header)
			w.WriteHeader(http.StatusBadRequest)
		case h.status != http.StatusOK:
			w.WriteHeader(h.status)
		default:
			h.events = append(h.events, e.Events...)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hooks) set(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// distinct are the events that came, each once, in order.
func (h *hooks) distinct() (es []hookEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	for _, e := range h.events {
		if !seen[e.ID] {
			seen[e.ID] = true
			es = append(es, e)
		}
	}
	return es
}

// config writes a configuration that tells h, and says more.
func (h *hooks) config(t *testing.T, more ...string) string {
	file := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf(`events:
  endpoints:
    - {name: hooks, url: %q, headers: ["X-Key: of the test"], threshold: 1, backoff: 10ms, max_backoff: 20ms}
`, h.URL) + strings.Join(more, "")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var queuedMetric = regexp.MustCompile(`(?m)^sociable_events_queued\{endpoint="hooks"\} (\d+)$`)

// awaitEvents waits until so many events wait for the endpoint, or have come.
func (p *proxy) awaitEvents(t *testing.T, what string, n int, have func() int) {
	t.Helper()
	limit := time.After(time.Minute)
	for have() < n {
		select {
		case <-limit:
			t.Fatalf("%s: %d of %d", what, have(), n)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *proxy) queuedEvents(t *testing.T) int {
	a, err := request(t.Context(), p.Admin, http.MethodGet, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	m := queuedMetric.FindSubmatch(a.body)
	if m == nil {
		return -1
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEventsOutliveTheProcess: a receiver that is away while the process is
// killed and started again gets all that was filed, in order, and then the rest.
func TestEventsOutliveTheProcess(t *testing.T) {
	l := newListing(t, true)
	s := httptest.NewServer(l)
	defer s.Close()
	h := newHooks(t)
	p := startProxyTo(t, s.URL, link.Options{}, "--config", h.config(t))
	pull := func(agent string) {
		t.Helper()
		if a := p.get(t, manifestPath("app", l.image.String()), "User-Agent", agent); a.StatusCode != http.StatusOK {
			t.Fatalf("manifest: %s", a.Status)
		}
	}
	pull("first")
	p.awaitEvents(t, "first event", 1, func() int { return len(h.distinct()) })
	want := []string{"first"}
	h.set(http.StatusServiceUnavailable)
	for round := range 3 {
		for i := range 20 {
			want = append(want, fmt.Sprint(round, "-", i))
			pull(want[len(want)-1])
		}
		p.awaitEvents(t, "queued", len(want)-1, func() int { return p.queuedEvents(t) })
		p.Kill()
		p.start(t)
	}
	h.set(http.StatusOK)
	p.awaitEvents(t, "all events", len(want), func() int { return len(h.distinct()) })
	var got []string
	for _, e := range h.distinct() {
		got = append(got, e.Request.UserAgent)
		if e.Action != "pull" || e.Target.Repository != "up/app" || e.Target.Digest != l.image.String() {
			t.Errorf("event %+v", e)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if strings.Contains(p.Log(), "of the test") {
		t.Error("the log holds a header's value")
	}
}

// send makes a request with a body.
func (p *proxy) send(t *testing.T, method, path, mediaType, body string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.Addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		q.Header.Set("Content-Type", mediaType)
	}
	q.Header.Set("User-Agent", "the test")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode > 299 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// TestAcceptedPushIsTold: what a client was told is accepted is told of, though
// the process is killed at once.
func TestAcceptedPushIsTold(t *testing.T) {
	h := newHooks(t)
	h.set(http.StatusInternalServerError)
	p := startProxyTo(t, "http://127.0.0.1:1", link.Options{}, "--config", h.config(t))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`,
		v1.MediaTypeImageManifest, emptyJSON)
	d := digest.FromString(manifest)
	p.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+string(emptyJSON), "application/octet-stream", "{}")
	p.Kill()
	p.start(t)
	p.send(t, http.MethodPut, "/v2/local/app/manifests/1", v1.MediaTypeImageManifest, manifest)
	p.Kill()
	p.start(t)
	p.send(t, http.MethodDelete, "/v2/local/app/manifests/"+d.String(), "", "")
	p.Kill()
	h.set(http.StatusOK)
	p.start(t)
	p.awaitEvents(t, "events", 3, func() int { return len(h.distinct()) })
	var got []string
	for _, e := range h.distinct() {
		got = append(got, strings.Join([]string{e.Action, e.Target.Repository, e.Target.Tag, e.Target.Digest, e.Request.UserAgent}, " "))
	}
	want := []string{
		"push local/app  " + string(emptyJSON) + " the test",
		"push local/app 1 " + d.String() + " the test",
		"delete local/app  " + d.String() + " the test",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
