package indexer

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// evicting is a world with a converted image of two platforms, and the layers of one
// of them that are wanted.
type evicting struct {
	*world
	s      *supply
	rule   Rule
	busy   atomic.Bool
	asks   atomic.Bool
	source digest.Digest
	image  digest.Digest // of the platform
	layers []digest.Digest
}

func startEvicting(t *testing.T, dir string) *evicting {
	t.Helper()
	e := &evicting{rule: Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536, Priority: 7}}
	e.asks.Store(true)
	e.s = newSupply(layout{t, "testdata/images/buildkit/before"})
	e.begin(dir)
	e.source = e.s.pull(t, "7", "linux/amd64", "linux/arm64")
	e.settle()
	e.view(func(tx storage.Tx) error {
		row, err := tx.Manifest(e.source)
		for i := range row.Manifest.Manifests {
			if m := &row.Manifest.Manifests[i]; platformName(m.Platform) == "linux/amd64" {
				e.image = m.Digest
			}
		}
		return err
	})
	row := e.world.image(e.image)
	for i := range row.Layers {
		if l := &row.Layers[i]; l.SpanSize != 0 {
			e.layers = append(e.layers, l.Descriptor.Digest)
		}
	}
	e.update(func(tx storage.Tx) (err error) { // as the proxy has it for what it was given
		for _, d := range e.layers {
			err = errors.Join(err, tx.PutRight(redis, d))
		}
		return err
	})
	if len(e.layers) == 0 || row.Index == "" {
		t.Fatalf("at first: %+v", row)
	}
	return e
}

// begin runs an Indexer with the rule of now.
func (e *evicting) begin(dir string) {
	e.world = start(e.s.from.t, dir, Options{
		Rules: []Rule{e.rule}, Fetch: e.s, Busy: e.busy.Load, Asks: func(oci.Repo) bool { return e.asks.Load() },
	}, nil)
	e.s.w = e.world
}

func (e *evicting) update(fn func(storage.Tx) error) {
	e.t.Helper()
	e.check("update", e.store.Update(e.t.Context(), fn))
}

func (e *evicting) evict() {
	e.t.Helper()
	for _, d := range e.layers {
		_, err := e.store.Purge(e.t.Context(), d)
		e.check("evict", err)
	}
}

// widen has the rule want other spans.
func (e *evicting) widen() {
	e.rule.SpanSize *= 2
	e.x.SetRules([]Rule{e.rule})
	e.settle()
}

// waiting are the jobs of the layers.
func (e *evicting) waiting() []storage.JobRow {
	return slices.DeleteFunc(e.jobs(), func(j storage.JobRow) bool { return !slices.Contains(e.layers, j.Layer.Digest) })
}

func (e *evicting) fetched() int {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	n := 0
	for _, d := range e.s.asked {
		if slices.Contains(e.layers, d) {
			n++
		}
	}
	return n
}

// TestEvictedIsFetchedForTheRule: where a rule wants other spans, layers that were
// evicted are fetched once more, behind all else and when clients leave time for it,
// and so both forms of the index follow the rule; what is evicted again stays so.
func TestEvictedIsFetchedForTheRule(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		e := startEvicting(t, dir)
		was, _ := e.conversion(e.source)
		listed := e.world.image(e.image).Index
		e.evict()
		e.x.SetRules([]Rule{e.rule})
		e.settle()
		if jobs := e.waiting(); len(jobs) > 0 {
			t.Fatalf("with the rule that it was: %+v", jobs)
		}
		e.busy.Store(true)
		e.widen()
		jobs := e.waiting()
		if len(jobs) != len(e.layers) || e.fetched() > 0 {
			t.Fatalf("%d jobs, %d layers fetched, want %d and none while clients are busy", len(jobs), e.fetched(), len(e.layers))
		}
		for _, j := range jobs {
			if !j.Fetch || !j.Again || j.Priority != 7-behindAll || j.Layer.Repo != redis {
				t.Errorf("job %+v", j)
			}
		}
		if e.world.image(e.image).Index != listed {
			t.Error("the index is another one before there is one")
		}
		e.rule.Priority = 8
		e.x.SetRules([]Rule{e.rule})
		e.settle()
		if jobs := e.waiting(); len(jobs) != len(e.layers) || jobs[0].Priority != 8-behindAll {
			t.Errorf("with another priority: %+v", jobs)
		}
		e.busy.Store(false)
		time.Sleep(time.Minute)
		e.settle()
		now, _ := e.conversion(e.source)
		if e.world.image(e.image).Index == listed || now.Index.Digest == was.Index.Digest || len(now.Platforms) != 2 {
			t.Errorf("after it was fetched: index %s, converted %+v", e.world.image(e.image).Index, now)
		}
		if n := e.fetched(); n != len(e.layers) || len(e.waiting()) > 0 {
			t.Errorf("%d layers were fetched, want %d; jobs %+v", n, len(e.layers), e.waiting())
		}
		for _, d := range e.layers {
			if _, err := e.store.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s, which nobody asked for, is kept: %v", d, err)
			}
		}
		e.stop()
		e.begin(dir)
		e.settle()
		if n := e.fetched(); n != len(e.layers) || len(e.waiting()) > 0 {
			t.Errorf("evicted again, and restarted: %d were fetched, jobs %+v", n, e.waiting())
		}
	})
}

// TestEvictedStaysEvicted: nothing is fetched that is not offered, was never here,
// must not be served, or whose upstream is not to be asked.
func TestEvictedStaysEvicted(t *testing.T) {
	for name, set := range map[string]func(*evicting){
		"offline":         func(e *evicting) { e.asks.Store(false) },
		"no rule has one": func(e *evicting) { e.rule.Publish = PublishNone },
		"not for long": func(e *evicting) {
			time.Sleep(wantedFor + time.Hour)
			e.settle()
		},
		"withdrawn": func(e *evicting) {
			e.update(func(tx storage.Tx) error {
				_, err := storage.WithdrawIndexes(tx, oci.Repo{}, e.source, e.x.now())
				return err
			})
		},
		"image blocked": func(e *evicting) {
			e.update(func(tx storage.Tx) error { return tx.PutBlock(storage.BlockRow{Digest: e.image}) })
		},
		"layers blocked": func(e *evicting) {
			e.update(func(tx storage.Tx) (err error) {
				for _, d := range e.layers {
					err = errors.Join(err, tx.PutBlock(storage.BlockRow{Digest: d}))
				}
				return err
			})
		},
		"no right any more": func(e *evicting) {
			e.update(func(tx storage.Tx) (err error) {
				for _, d := range e.layers {
					err = errors.Join(err, tx.DeleteRight(redis, d))
				}
				return err
			})
		},
		"never here whole": func(e *evicting) {
			e.update(func(tx storage.Tx) (err error) {
				for _, d := range e.layers {
					err = errors.Join(err, tx.DeleteLayer(d, e.rule.SpanSize))
				}
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				e := startEvicting(t, t.TempDir())
				e.evict()
				set(e)
				e.busy.Store(true) // so that a job would be seen
				e.widen()
				if jobs := e.waiting(); len(jobs) > 0 || e.fetched() > 0 {
					t.Errorf("%d were fetched, jobs %+v", e.fetched(), jobs)
				}
			})
		})
	}
}

// TestRefetchGivesWay: what an operator cancelled is not filed anew, and
// what somebody asks for, or pulls, comes before what nobody does.
func TestRefetchGivesWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := startEvicting(t, t.TempDir())
		e.evict()
		e.busy.Store(true)
		e.widen()
		jobs := e.waiting()
		jobs[0].Cancelled = true
		e.update(func(tx storage.Tx) error { return tx.PutJob(jobs[0]) })
		e.x.SetRules([]Rule{e.rule})
		e.settle()
		if now := e.waiting(); len(now) != len(e.layers) || !slices.ContainsFunc(now, func(j storage.JobRow) bool { return j.Cancelled }) {
			t.Errorf("after it was cancelled: %+v", now)
		}
		e.check("fetch", e.x.fetchLayers(t.Context(), []digest.Digest{e.image}))
		for _, j := range e.waiting() {
			if j.Again || j.Priority != 7 {
				t.Errorf("asked for: %+v", j)
			}
		}
	})
}

// TestPulledAgainBeforeItsTurn: a layer that somebody pulls meanwhile waits no more
// behind all else.
func TestPulledAgainBeforeItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := startEvicting(t, t.TempDir())
		e.evict()
		e.busy.Store(true)
		e.widen()
		e.whole(e.s.from.blob(e.layers[0]))
		e.settle()
		jobs := e.waiting()
		if len(jobs) != len(e.layers) || jobs[0].Layer.Digest != e.layers[0] || jobs[0].Again || jobs[0].Priority != 7 {
			t.Errorf("jobs %+v, want that of %s first", jobs, e.layers[0])
		}
	})
}

// outage is a Fetcher whose upstream may be away.
type outage struct {
	Fetcher
	away atomic.Bool
}

func (o *outage) OpenBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor) (io.ReadCloser, error) {
	if o.away.Load() {
		return nil, errors.New("the upstream is away")
	}
	return o.Fetcher.OpenBlob(ctx, repo, d)
}

// TestRefetchAfterOutage: what was given up while the upstream was away is done when
// rules are looked at again, or when a client has brought the layers.
func TestRefetchAfterOutage(t *testing.T) {
	for name, end := range map[string]func(*evicting){
		"rules are looked at": func(e *evicting) { e.x.SetRules([]Rule{e.rule}) },
		"pulled": func(e *evicting) {
			for _, d := range e.layers {
				e.whole(e.s.from.blob(d))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				dir := t.TempDir()
				e := startEvicting(t, dir)
				listed := e.world.image(e.image).Index
				e.evict()
				e.stop()
				o := &outage{Fetcher: e.s}
				o.away.Store(true)
				e.rule.SpanSize *= 2
				e.world = start(t, dir, Options{Rules: []Rule{e.rule}, Fetch: o}, nil)
				e.s.w = e.world
				e.settle()
				time.Sleep(24 * time.Hour)
				e.settle()
				if jobs := e.waiting(); len(jobs) != len(e.layers) || !jobs[0].Failed || e.world.image(e.image).Index != listed {
					t.Fatalf("while it was away: %+v", jobs)
				}
				o.away.Store(false)
				end(e)
				e.settle()
				time.Sleep(time.Hour)
				e.settle()
				if jobs := e.waiting(); len(jobs) > 0 || e.world.image(e.image).Index == listed {
					t.Errorf("it is back, and the image has its former index; jobs %+v", jobs)
				}
			})
		})
	}
}
