package events

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// picky is a receiver that answers each envelope by the tags in it.
type picky struct {
	mu     sync.Mutex
	answer func(tags []string) int
	posts  int
	tags   []string  // that were taken
	last   time.Time // when the last was
}

func (p *picky) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var e struct{ Events []record }
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		return nil, err
	}
	var tags []string
	for _, x := range e.Events {
		tags = append(tags, x.Target.Tag)
	}
	p.posts++
	status := p.answer(tags)
	if status == http.StatusOK {
		p.tags, p.last = append(p.tags, tags...), time.Now()
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (p *picky) taken() ([]string, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.tags), p.posts
}

func (p *picky) becomes(answer func([]string) int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// pickyRig is an endpoint with the usual settings whose receiver is a picky one.
type pickyRig struct {
	*picky
	t    *testing.T
	db   *bolt.DB
	x    *Events
	log  bytes.Buffer // read once it was stopped
	stop func()
}

func newPickyRig(t *testing.T, answer func([]string) int) *pickyRig {
	r := &pickyRig{picky: &picky{answer: answer}, t: t, db: openRows(t, filepath.Join(t.TempDir(), "meta.db"))}
	r.start()
	return r
}

func (r *pickyRig) start() {
	r.x = New(Options{
		Store: r.db, Endpoints: []Endpoint{{Name: "ci", URL: "http://ci.invalid/secret"}}, Client: &http.Client{Transport: r.picky},
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Registerer: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(r.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.x.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
}

// queue gives the tags of what is in a queue.
func (r *pickyRig) queue(name string) (tags []string) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx storage.Tx) error {
		return tx.Events(name, 0, func(row storage.EventRow) error {
			var rec record
			err := json.Unmarshal(row.Body, &rec)
			tags = append(tags, rec.Target.Tag)
			return err
		})
	})
	if err != nil {
		r.t.Error(err)
	}
	return tags
}

func (r *pickyRig) want(what string, taken, waiting, aside []string) {
	r.t.Helper()
	got, _ := r.taken()
	if diff := cmp.Diff([][]string{taken, waiting, aside}, [][]string{got, r.queue("ci"), r.queue(storage.SetAside("ci"))}); diff != "" {
		r.t.Errorf("%s: taken, waiting, set aside (-want +got):\n%s", what, diff)
	}
}

func (r *pickyRig) wantLog(words ...string) {
	r.t.Helper()
	r.stop()
	for _, w := range words {
		if !strings.Contains(r.log.String(), w) {
			r.t.Errorf("the log does not say %q:\n%s", w, &r.log)
		}
	}
	if strings.Contains(r.log.String(), "/secret") {
		r.t.Errorf("the log has the address, which may be a secret:\n%s", &r.log)
	}
}

// without answers no to every envelope with one of the tags.
func without(status int, bad ...string) func([]string) int {
	return func(tags []string) int {
		if slices.ContainsFunc(tags, func(tag string) bool { return slices.Contains(bad, tag) }) {
			return status
		}
		return http.StatusOK
	}
}

// TestRefusedEventIsSetAside: an event that an endpoint will never take stops the
// others for minutes, not for ever, is named in the log, and is kept. One that is
// refused while others are taken stops them for moments.
func TestRefusedEventIsSetAside(t *testing.T) {
	for _, status := range []int{400, 413, 422} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			r := newPickyRig(t, without(status, "3", "7", "8"))
			file(t, r.db, r.x, push("0"), push("1"), push("2"), push("3"), push("4"), push("5"), push("6"), push("7"), push("8"), push("9"))
			time.Sleep(4 * time.Minute)
			r.want("it may be the endpoint's fault", []string{"0", "1", "2"}, []string{"3", "4", "5", "6", "7", "8", "9"}, nil)
			time.Sleep(30 * time.Minute)
			r.want("in the end", []string{"0", "1", "2", "4", "5", "6", "9"}, nil, []string{"3", "7", "8"})
			if took := r.last.Sub(start); took > 15*time.Minute {
				t.Errorf("the last event came after %v", took)
			}
			if n := testutil.ToFloat64(r.x.m.refusals.WithLabelValues("ci")); n != 3 || r.x.endpoints[0].queued.Load() != 0 || r.x.endpoints[0].aside.Load() != 3 {
				t.Errorf("%v counted as refused, %d queued, %d set aside", n, r.x.endpoints[0].queued.Load(), r.x.endpoints[0].aside.Load())
			}
			if _, posts := r.taken(); posts > 150 {
				t.Errorf("%d requests for ten events", posts)
			}
			r.wantLog("event set aside", "tag=3", "tag=7", "action=push", "repo=local/app", "endpoint=ci", "the endpoint answered 4")
		})
	}
}

// TestRefusedSideBySide: what one push is told by is refused together, and costs the
// others the minutes of one event; where more than that is, the endpoint may be what is
// at fault, and each has its minutes.
func TestRefusedSideBySide(t *testing.T) {
	tags := func(from, to int) (list []string) {
		for i := from; i < to; i++ {
			list = append(list, strconv.Itoa(i))
		}
		return list
	}
	for name, c := range map[string]struct {
		n     int // refused, of which so many are aside after seven minutes
		aside int
	}{
		"a push":      {4, 4},
		"a few more":  {maxTogether, maxTogether},
		"perhaps all": {maxTogether + 3, maxTogether},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newPickyRig(t, without(400, tags(1, 1+c.n)...))
				file(t, r.db, r.x, push("0"))
				for _, tag := range tags(1, 1+c.n) {
					file(t, r.db, r.x, push(tag))
				}
				file(t, r.db, r.x, push("last"))
				time.Sleep(7 * time.Minute)
				taken, waiting := []string{"0"}, append(tags(1+c.aside, 1+c.n), "last")
				if c.n == c.aside {
					taken, waiting = []string{"0", "last"}, nil
				}
				r.want("after seven minutes", taken, waiting, tags(1, 1+c.aside))
				time.Sleep(20 * time.Minute)
				r.want("in the end", []string{"0", "last"}, nil, tags(1, 1+c.n))
			})
		})
	}
}

// TestRefusedAtFirst: an endpoint that refuses what it takes a little later, and
// nothing else, loses nothing of it.
func TestRefusedAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPickyRig(t, func([]string) int { return 400 })
		file(t, r.db, r.x, push("0"), push("1"), push("2"))
		time.Sleep(3 * time.Minute)
		r.becomes(without(0))
		time.Sleep(3 * time.Minute)
		r.want("after three minutes of 400", []string{"0", "1", "2"}, nil, nil)
	})
}

// TestAllRefused: where everything is refused, events are set aside one after another,
// none at once, and a restart keeps them all.
func TestAllRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPickyRig(t, func([]string) int { return 422 })
		file(t, r.db, r.x, push("0"), push("1"), push("2"), push("3"))
		time.Sleep(13 * time.Minute)
		r.want("after 13 minutes", nil, []string{"2", "3"}, []string{"0", "1"})
		r.stop()
		r.start()
		time.Sleep(time.Minute)
		r.want("after a restart", nil, []string{"2", "3"}, []string{"0", "1"})
		if n := r.x.endpoints[0].aside.Load(); n != 2 {
			t.Errorf("%d counted as set aside", n)
		}
		r.becomes(without(0))
		time.Sleep(3 * time.Minute)
		r.want("once it takes them", []string{"2", "3"}, nil, []string{"0", "1"})
	})
}

// TestTroubleIsWaitedFor: what says nothing about an event never costs one, and the
// log says which event waits, and whether somebody has to mend something.
func TestTroubleIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		statuses []int
		word     string
	}{
		{[]int{408, 425, 429, 500, 502, 503, 504}, "endpoint does not take events"},
		{[]int{301, 401, 403, 404, 405, 410, 415}, "look at its url, token_file and headers"},
	} {
		for _, status := range c.statuses {
			synctest.Test(t, func(t *testing.T) {
				r := newPickyRig(t, func([]string) int { return status })
				file(t, r.db, r.x, push("0"), push("1"))
				time.Sleep(2 * time.Hour)
				r.want(http.StatusText(status), nil, []string{"0", "1"}, nil)
				r.becomes(without(0))
				time.Sleep(3 * time.Minute)
				r.want("mended", []string{"0", "1"}, nil, nil)
				r.wantLog(c.word, "tag=0", "action=push", "repo=local/app", "endpoint=ci", "takes events again")
			})
		}
	}
}

// TestSetAsideIsBounded: the newest are kept.
func TestSetAsideIsBounded(t *testing.T) {
	db := openRows(t, filepath.Join(t.TempDir(), "meta.db"))
	x := New(Options{Store: db, Endpoints: []Endpoint{quick("http://127.0.0.1:1")}})
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for range maxSetAside {
			if err := tx.AddEvent(storage.SetAside("ci"), []byte("{}")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	file(t, db, x, push("new"))
	e := x.endpoints[0]
	rows, err := e.next(t.Context())
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if !e.setAside(t.Context(), rows[0], &answered{400}) {
		t.Fatal("not set aside")
	}
	var kept []storage.EventRow
	err = db.View(t.Context(), func(tx storage.Tx) error {
		return tx.Events(storage.SetAside("ci"), 0, func(row storage.EventRow) error { kept = append(kept, row); return nil })
	})
	if err != nil || len(kept) != maxSetAside || !bytes.Contains(kept[maxSetAside-1].Body, []byte(`"new"`)) {
		t.Errorf("%d are kept, %v", len(kept), err)
	}
	if n := testutil.ToFloat64(x.m.dropped.WithLabelValues("ci")); n != 1 {
		t.Errorf("%v counted as dropped", n)
	}
}

// TestNamesOfQueues: what was set aside is told from what waits.
func TestNamesOfQueues(t *testing.T) {
	if name, aside := storage.EndpointOf(storage.SetAside("ci")); name != "ci" || !aside {
		t.Errorf("%q, %v", name, aside)
	}
	if name, aside := storage.EndpointOf("ci"); name != "ci" || aside {
		t.Errorf("%q, %v", name, aside)
	}
}
