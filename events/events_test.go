package events

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a real HTTP server that keeps what it takes.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	answer func(n int) int // status of request number n, from 1; nil: 200
	n      int
	taken  []record
	header http.Header // of the last request
	came   chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{came: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, q *http.Request) {
	var e struct{ Events []record }
	err := json.NewDecoder(q.Body).Decode(&e)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	r.header = q.Header.Clone()
	status := http.StatusOK
	switch {
	case err != nil || len(e.Events) == 0:
		status = http.StatusBadRequest
	case r.answer != nil:
		status = r.answer(r.n)
	}
	if status == http.StatusOK {
		r.taken = append(r.taken, e.Events...)
	}
	w.WriteHeader(status)
	select {
	case r.came <- struct{}{}:
	default:
	}
}

// tags are those of the events that were taken, each once, in order.
func (r *receiver) tags() (tags []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.taken {
		if !slices.Contains(tags, e.Target.Tag) {
			tags = append(tags, e.Target.Tag)
		}
	}
	return tags
}

// await waits until ok says so, asked after each request.
func (r *receiver) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-r.came:
		case <-limit:
			t.Fatalf("%s: not in time; taken %v", what, r.tags())
		}
	}
}

func openRows(t *testing.T, path string) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func run(t *testing.T, x *Events) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

var image = oci.Repo{Upstream: "local", Name: "app"}

func push(tag string) oci.Event {
	return oci.Event{Kind: oci.EventPush, Repo: image, Tag: tag, Target: v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(tag), Size: 7,
	}}
}

func file(t *testing.T, db *bolt.DB, x *Events, es ...oci.Event) {
	t.Helper()
	for _, e := range es {
		if err := db.Update(t.Context(), func(tx storage.Tx) error { return x.File(tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
}

// quick is an endpoint that is tried again at once.
func quick(url string) Endpoint {
	return Endpoint{Name: "ci", URL: url, Threshold: 1, Backoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond}
}

// TestEnvelope: what is sent is what receivers of distribution's notifications
// understand.
func TestEnvelope(t *testing.T) {
	r := newReceiver(t)
	db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
	o := quick(r.URL)
	o.Headers, o.MediaType = http.Header{"X-Key": {"k"}}, MediaTypeV2
	x := New(Options{Store: db, Endpoints: []Endpoint{o}, Addr: "127.0.0.1:5000"})
	run(t, x)
	e := push("1")
	e.References = []v1.Descriptor{{MediaType: v1.MediaTypeImageLayer, Digest: digest.FromString("layer"), Size: 1}}
	e.Request = &oci.EventRequest{ID: "id", Addr: "10.0.0.1:9", Method: "PUT", UserAgent: "oras", Scheme: "https", Host: "example.com", Actor: "ann"}
	file(t, db, x, e)
	r.await(t, "push", func() bool { return len(r.tags()) == 1 })
	r.mu.Lock()
	got := r.taken[0]
	h := r.header
	r.mu.Unlock()
	if h.Get("Content-Type") != MediaTypeV2 || h.Get("X-Key") != "k" {
		t.Errorf("headers %v", h)
	}
	if len(got.ID) != 36 || got.Timestamp.IsZero() || got.Source.Addr != "127.0.0.1:5000" || got.Source.InstanceID == "" {
		t.Errorf("event %+v", got)
	}
	want := record{
		ID: got.ID, Timestamp: got.Timestamp, Source: got.Source, Action: "push",
		Target: target{
			Descriptor: e.Target, Length: 7, Repository: "local/app", Tag: "1", References: e.References,
			URL: "https://example.com/v2/local/app/manifests/" + e.Target.Digest.String(),
		},
		Request: request{ID: "id", Addr: "10.0.0.1:9", Host: "example.com", Method: "PUT", UserAgent: "oras"},
		Actor:   actor{Name: "ann"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReceiverTrouble: whatever an endpoint does for a while, it gets all, in
// order, and the other endpoint is not kept waiting.
func TestReceiverTrouble(t *testing.T) {
	const n = 120
	var want []string
	var es []oci.Event
	for i := range n {
		want = append(want, fmt.Sprintf("%03d", i))
		es = append(es, push(want[i]))
	}
	hold := make(chan struct{})
	for name, answer := range map[string]func(int) int{
		"500s":          func(n int) int { return []int{500, 200, 503, 404, 200, 302}[n%6] },
		"down at first": func(n int) int { return map[bool]int{true: 503, false: 200}[n < 8] },
		"slow": func(n int) int {
			if n == 1 {
				<-hold // longer than its timeout
			}
			return 200
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := newReceiver(t), newReceiver(t)
			bad.answer = answer
			db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
			o := quick(bad.URL)
			if name == "slow" {
				o.Timeout = 50 * time.Millisecond
				time.AfterFunc(200*time.Millisecond, func() { close(hold) })
			}
			other := quick(good.URL)
			other.Name = "other"
			x := New(Options{Store: db, Endpoints: []Endpoint{o, other}})
			run(t, x)
			file(t, db, x, es...)
			good.await(t, "the sound endpoint", func() bool { return len(good.tags()) == n })
			bad.await(t, "the other", func() bool { return len(bad.tags()) == n })
			for r, who := range map[*receiver]string{good: "sound", bad: "other"} {
				if diff := cmp.Diff(want, r.tags()); diff != "" {
					t.Errorf("%s endpoint (-want +got):\n%s", who, diff)
				}
			}
		})
	}
}

// TestRestart: what was not taken is sent by the next process, and what is
// filed meanwhile stands behind it.
func TestRestart(t *testing.T) {
	r := newReceiver(t)
	away := true
	r.answer = func(int) int { return map[bool]int{true: 500, false: 200}[away] }
	db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
	start := func(names ...string) *Events {
		var es []Endpoint
		for _, n := range names {
			e := quick(r.URL)
			e.Name = n
			es = append(es, e)
		}
		return New(Options{Store: db, Endpoints: es})
	}
	x := start("ci", "gone")
	stop := run(t, x)
	file(t, db, x, push("1"), push("2"))
	r.await(t, "an attempt", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.n > 2 })
	stop()
	r.mu.Lock()
	away = false
	r.mu.Unlock()
	x = start("ci")
	file(t, db, x, push("3"))
	run(t, x)
	r.await(t, "all", func() bool { return len(r.tags()) == 3 })
	if diff := cmp.Diff([]string{"1", "2", "3"}, r.tags()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	err := db.View(t.Context(), func(tx storage.Tx) error {
		return tx.Events("gone", 0, func(storage.EventRow) error { t.Error("an endpoint that is gone has events"); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBound: pulls are dropped beyond the bound, and counted; pushes are not.
func TestBound(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(int) int { return 500 }
	db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
	reg := prometheus.NewPedanticRegistry()
	x := New(Options{Store: db, Endpoints: []Endpoint{quick(r.URL)}, MaxQueue: 10, Registerer: reg})
	for i := range 30 {
		e := push(fmt.Sprint("pull", i))
		e.Kind = oci.EventPull
		x.Note(e)
	}
	x.flush(t.Context())
	for i := range 5 {
		file(t, db, x, push(fmt.Sprint("push", i)))
		evicted := push(fmt.Sprint("evicted", i))
		evicted.Kind = oci.EventEvicted
		if err := db.Update(t.Context(), func(tx storage.Tx) error { return x.FileMany(tx, evicted) }); err != nil {
			t.Fatal(err)
		}
	}
	x.flush(t.Context())
	var tags []string
	err := db.View(t.Context(), func(tx storage.Tx) error {
		return tx.Events("ci", 0, func(row storage.EventRow) error {
			var rec record
			tags = append(tags, "")
			defer func() { tags[len(tags)-1] = rec.Target.Tag }()
			return json.Unmarshal(row.Body, &rec)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tags) != 15 || tags[9] != "pull9" || tags[14] != "push4" {
		t.Errorf("queued %v, want ten pulls and all five pushes", tags)
	}
	if got := testutil.ToFloat64(x.m.dropped.WithLabelValues("ci")); got != 25 {
		t.Errorf("%v counted as dropped, want 20 pulls and 5 evictions", got)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP sociable_events_queued Events that wait for an endpoint, about.
# TYPE sociable_events_queued gauge
sociable_events_queued{endpoint="ci"} 15
`), "sociable_events_queued"); err != nil {
		t.Error(err)
	}
}

// TestFailedUpdateTellsNothing: an event is kept with what it tells about, or
// not at all; and nothing is filed for who ignores it.
func TestFailedUpdateTellsNothing(t *testing.T) {
	db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
	o := quick("http://127.0.0.1:1")
	o.IgnoreKinds, o.IgnoreMediaTypes = []oci.EventKind{oci.EventDelete}, []string{"application/octet-stream"}
	x := New(Options{Store: db, Endpoints: []Endpoint{o}})
	failure := fmt.Errorf("the manifest was not stored")
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		if err := x.File(tx, push("never")); err != nil {
			return err
		}
		return failure
	})
	if err == nil {
		t.Fatal("no error")
	}
	deleted, blob := push("deleted"), push("blob")
	deleted.Kind, blob.Target.MediaType = oci.EventDelete, "application/octet-stream"
	file(t, db, x, deleted, blob)
	if x.Wants(oci.EventDelete) || !x.Wants(oci.EventPush) || (*Events)(nil).Wants(oci.EventPush) {
		t.Error("Wants is wrong")
	}
	err = db.View(t.Context(), func(tx storage.Tx) error {
		return tx.EventEndpoints(func(string) error { t.Error("something is queued"); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPullsCostNoWrite: reads are gathered, and filed in one write.
func TestPullsCostNoWrite(t *testing.T) {
	db := &counting{DB: openRows(t, filepath.Join(t.TempDir(), "meta.db"))}
	x := New(Options{Store: db, Endpoints: []Endpoint{quick("http://127.0.0.1:1")}})
	for i := range maxPassing + 10 {
		e := push(fmt.Sprint(i))
		e.Kind = oci.EventPull
		x.Note(e)
	}
	if db.updates != 0 {
		t.Errorf("%d writes while pulling", db.updates)
	}
	x.flush(t.Context())
	if db.updates != 1 || x.endpoints[0].queued.Load() != maxPassing {
		t.Errorf("%d writes of %d events, want one of %d", db.updates, x.endpoints[0].queued.Load(), maxPassing)
	}
	if got := testutil.ToFloat64(x.m.dropped.WithLabelValues("ci")); got != 10 {
		t.Errorf("%v dropped, want 10", got)
	}
}

type counting struct {
	*bolt.DB
	updates int
}

func (c *counting) Update(ctx context.Context, fn func(storage.Tx) error) error {
	c.updates++
	return c.DB.Update(ctx, fn)
}

func TestWait(t *testing.T) {
	x := New(Options{})
	e := newEndpoint(x, Endpoint{Name: "e", Threshold: 3, Backoff: time.Second, MaxBackoff: 5 * time.Second})
	for fails, want := range map[int]time.Duration{1: again, 2: again, 3: time.Second, 4: 2 * time.Second, 5: 4 * time.Second, 6: 5 * time.Second, 1000: 5 * time.Second} {
		e.fails = fails
		for range 20 {
			if got := e.wait(); got < want/2 || got >= want/2+want {
				t.Errorf("after %d failures %v, want about %v", fails, got, want)
			}
		}
	}
}
