package series

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage/storagetest"
)

// meter is a registry with the counters that a server has, as far as it counts.
type meter struct {
	*prometheus.Registry
	requests, builds *prometheus.CounterVec
	sent             prometheus.Counter
	stored           *prometheus.GaugeVec
}

func newMeter() *meter {
	m := &meter{
		Registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sociable_proxy_requests_total"}, []string{"code", "cache"}),
		builds:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sociable_indexer_builds_total"}, []string{"result"}),
		sent:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sociable_proxy_sent_bytes_total"}),
		stored:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sociable_storage_bytes"}, []string{"kind"}),
	}
	m.MustRegister(m.requests, m.builds, m.sent, m.stored)
	return m
}

func TestRecorder(t *testing.T) {
	store, m := storagetest.NewStore(t), newMeter()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	options := func(m *meter) Options {
		return Options{Gatherer: m, Rows: store, Now: func() time.Time { return now }}
	}
	r := New(options(m))
	m.requests.WithLabelValues("2xx", "hit").Add(3)
	m.requests.WithLabelValues("2xx", "miss").Inc()
	m.requests.WithLabelValues("5xx", "").Inc()
	m.sent.Add(1000)
	m.stored.WithLabelValues("span").Set(5)
	m.stored.WithLabelValues("blob").Set(7)
	if !r.Measure() || r.Measure() {
		t.Error("Measure does not tell whether anything happened")
	}
	now = now.Add(Hour.Step())
	m.sent.Add(500)
	check := func(what string, s *Series, want map[Name]float64) {
		t.Helper()
		for n, v := range want {
			if got := s.Sum(n); got != v {
				t.Errorf("%s: %v is %v, want %v", what, n, got, v)
			}
		}
	}
	sums := map[Name]float64{Requests: 5, Failures: 1, Asked: 4, Hits: 3, Sent: 1500}
	for _, x := range Ranges {
		check(string(x), r.Series(x), sums)
	}
	s := r.Series(Hour)
	for n, want := range map[Name][2]float64{Sent: {1000, 500}, Stored: {12, 12}, StoredSpans: {5, 5}} {
		for i, w := range want {
			if v, ok := s.At(n, Points-2+i); v != w || !ok {
				t.Errorf("%v, step %d: %v, %v, want %v", n, i, v, ok, w)
			}
		}
	}
	if _, ok := s.At(Sent, Points-3); ok {
		t.Error("there is something from before the start")
	}
	if got := s.Time(Points - 1); !got.Equal(now) {
		t.Errorf("the newest step begins at %v, want %v", got, now)
	}

	r.keep(t.Context())
	now = now.Add(10 * time.Minute)
	m = newMeter() // counters begin anew with the process
	r = New(options(m))
	if err := r.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.sent.Add(7)
	sums[Sent] += 7
	check("after a restart", r.Series(Hour), sums)
	now = now.Add(time.Hour)
	check("an hour later", r.Series(Hour), map[Name]float64{Sent: 0})
	check("an hour later, of the day", r.Series(Day), sums)
	now = now.Add(-2 * time.Hour)
	m.sent.Add(1)
	check("the clock went back", r.Series(Hour), map[Name]float64{Sent: 1})
}

func TestDecodeRefuses(t *testing.T) {
	good, err := encode([]*ring{newRing(Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"nothing": nil, "another format": append([]byte{9}, good[1:]...), "cut": good[:len(good)/2], "noise": {1, 2, 3, 4},
	} {
		into := newRing(Hour)
		if err := decode(raw, []*ring{into}); !errors.Is(err, errFormat) {
			t.Errorf("%s: %v, want errFormat", name, err)
		}
		if into.last != 0 {
			t.Errorf("%s: something was taken over", name)
		}
	}
	if err := decode(good, []*ring{newRing(Day)}); !errors.Is(err, errFormat) {
		t.Errorf("another step: %v, want errFormat", err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode([]*ring{newRing(Hour), newRing(Day)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		rings := []*ring{newRing(Hour), newRing(Day)}
		if decode(raw, rings) != nil {
			return
		}
		s := Series{ring: *rings[0]}
		for i := range Points {
			s.At(Sent, i)
		}
		s.Sum(Sent)
	})
}

// TestQueue: what was given up does not wait.
func TestQueue(t *testing.T) {
	m := newMeter()
	jobs := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sociable_indexer_queue_jobs"}, []string{"kind"})
	failed := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sociable_indexer_queue_failed_jobs"}, []string{"kind"})
	m.MustRegister(jobs, failed)
	for _, c := range []struct{ layers, tasks, failed, want float64 }{{2, 5, 4, 3}, {0, 1, 2, 0}} {
		jobs.WithLabelValues("layer").Set(c.layers)
		jobs.WithLabelValues("convert").Set(c.tasks)
		failed.WithLabelValues("convert").Set(c.failed)
		if r, err := read(m); err != nil || r[Queue] != c.want {
			t.Errorf("%+v: %v wait, %v", c, r[Queue], err)
		}
	}
}
