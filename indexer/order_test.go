package indexer

import (
	"compress/gzip"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestAnyOrder: manifest, tap and whole blob of two layers, in every order,
// give one and the same index.
func TestAnyOrder(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	img := newImage(t, "img", a, b)
	steps := map[string]func(*world){
		"manifest": func(w *world) { w.manifest(redis, img) },
		"tap a":    func(w *world) { w.tap(a) },
		"tap b":    func(w *world) { w.tap(b) },
		"whole a":  func(w *world) { w.whole(a) },
		"whole b":  func(w *world) { w.whole(b) },
	}
	indexes := map[digest.Digest]int{}
	for _, quiet := range []bool{false, true} { // steps at once, or each after the one before has settled
		for _, order := range permutations([]string{"manifest", "tap a", "tap b", "whole a", "whole b"}) {
			inBubble(t, func(t *testing.T) {
				w := start(t, t.TempDir(), Options{Rules: everything}, nil)
				for _, name := range order {
					steps[name](w)
					if quiet {
						w.settle()
					}
				}
				w.settle()
				indexes[w.wantIndex(img, a, b).Digest]++
				if jobs := w.jobs(); len(jobs) > 0 {
					t.Errorf("jobs left: %+v", jobs)
				}
				if t.Failed() {
					t.Fatalf("in order %q, quiet %v", order, quiet)
				}
			})
		}
	}
	if len(indexes) != 1 {
		t.Errorf("indexes %v, want one", indexes)
	}
}

// permutations with taps in one order only: they are alike.
func permutations(steps []string) (out [][]string) {
	if len(steps) == 0 {
		return [][]string{nil}
	}
	for i, s := range steps {
		for _, rest := range permutations(slices.Delete(slices.Clone(steps), i, i+1)) {
			if p := append([]string{s}, rest...); !slices.Contains(p, "tap a") || !slices.Contains(p, "tap b") ||
				slices.Index(p, "tap a") < slices.Index(p, "tap b") {
				out = append(out, p)
			}
		}
	}
	return out
}

func TestSharedLayers(t *testing.T) {
	base, a, b := newLayer(t, 1), newLayer(t, 2), newLayer(t, 3)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		first, second := newImage(t, "first", base, a), newImage(t, "second", base, b, base)
		w.manifest(redis, first)
		w.manifest(redis, second)
		w.tap(a)
		w.tap(b)
		w.settle()
		w.wantNoIndex(first)
		w.wantNoIndex(second)
		w.tap(base)
		w.settle()
		w.wantIndex(first, base, a)
		w.wantIndex(second, base, b, base)
	})
}

// TestCachedFromElsewhere: all layers of an image were indexed for another
// repository. Its index is listed when Manifest returns, before anybody could
// ask for it.
func TestCachedFromElsewhere(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		first, second := newImage(t, "first", a, b), newImage(t, "second", b, a)
		w.manifest(redis, first)
		w.tap(a)
		w.tap(b)
		w.settle()
		elsewhere := oci.Repo{Upstream: "quay.io", Name: "team/app"}
		w.manifest(elsewhere, second)
		w.wantIndex(second, b, a)

		before := w.wantIndex(first, a, b)
		w.manifest(elsewhere, first)
		if after := w.wantIndex(first, a, b); after.Digest != before.Digest {
			t.Errorf("index is %s, was %s", after.Digest, before.Digest)
		}
		w.view(func(tx storage.Tx) error {
			img, err := tx.Image(first.digest)
			if want := []oci.Repo{redis, elsewhere}; !slices.Equal(img.Repos, want) {
				t.Errorf("seen in %v, want %v", img.Repos, want)
			}
			return err
		})
	})
}

func TestNothingWanted(t *testing.T) {
	a := newLayer(t, 1)
	zstd := []byte("zstd")
	tests := []struct {
		name  string
		opt   Options
		img   *image
		rows  bool   // an image row is kept
		skips string // the reason of its layer
	}{
		{"disabled", Options{Rules: everything, Disabled: true}, newImage(t, "img", a), false, ""},
		{"no rule", Options{}, newImage(t, "img", a), true, ReasonRule},
		{"excluded", Options{Rules: []Rule{{Repositories: []string{"**"}, Exclude: []string{"redis"}}}}, newImage(t, "img", a), true, ReasonRule},
		{"too small", Options{Rules: []Rule{{Repositories: []string{"**"}, MinLayerSize: 10 << 20}}}, newImage(t, "img", a), true, ReasonTooSmall},
		{"zstd", Options{Rules: everything}, typedImage(t, "img", []string{"application/vnd.oci.image.layer.v1.tar+zstd"}, zstd), true, ReasonZstd},
		{"attestation", Options{Rules: everything}, typedImage(t, "img", []string{"application/vnd.in-toto+json"}, zstd), false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := start(t, t.TempDir(), tt.opt, nil)
				w.manifest(redis, tt.img)
				w.tap(a)
				w.whole(a)
				w.settle()
				w.wantNoIndex(tt.img)
				if jobs := w.jobs(); len(jobs) > 0 {
					t.Errorf("jobs %+v", jobs)
				}
				w.view(func(tx storage.Tx) error {
					img, err := tx.Image(tt.img.digest)
					if !tt.rows {
						if err == nil {
							t.Errorf("image row %+v", img)
						}
						return nil
					}
					if err == nil && ReasonWord(img.Layers[0].Skip) != tt.skips {
						t.Errorf("skipped for %q, want %q", img.Layers[0].Skip, tt.skips)
					}
					return err
				})
			})
		})
	}
}

// TestRepeatsAreCheap: a manifest that was noted is not written again.
func TestRepeatsAreCheap(t *testing.T) {
	a := newLayer(t, 1)
	for _, rules := range [][]Rule{everything, nil, {{Repositories: []string{"**"}, SpanSize: 64 << 10, Publish: PublishNone}}} {
		inBubble(t, func(t *testing.T) {
			var f *faulty
			w := start(t, t.TempDir(), Options{Rules: rules}, func(s Store) Store {
				f = &faulty{Store: s}
				return f
			})
			img := newImage(t, "img", a)
			w.manifest(redis, img)
			w.manifest(redis, img) // still wanted
			w.settle()
			if n := f.writes.Load(); n != 1 {
				t.Errorf("%d writes, want 1", n)
			}
			w.tap(a)
			w.settle()
			n := f.writes.Load()
			w.manifest(redis, img)
			w.settle()
			if got := f.writes.Load(); got != n {
				t.Errorf("%d more writes, want none", got-n)
			}
		})
	}
}

// TestRulesChange: what is listed after a restart with other rules is what a
// fresh start with those would list, and never more than one.
func TestRulesChange(t *testing.T) {
	small, big := compress(t, newTar(t, 1, 100<<10), gzip.Header{}), newLayer(t, 2)
	img := newImage(t, "img", small, big)
	rule := func(r Rule) []Rule {
		r.Repositories, r.SpanSize = []string{"**"}, max(r.SpanSize, 64<<10)
		return []Rule{r}
	}
	steps := []struct {
		name  string
		rules []Rule
		want  [][]byte // nil: no index
	}{
		{"all", rule(Rule{}), [][]byte{small, big}},
		{"same", rule(Rule{}), [][]byte{small, big}},
		{"only big ones", rule(Rule{MinLayerSize: 200 << 10}), [][]byte{big}},
		{"larger spans", rule(Rule{SpanSize: 128 << 10}), [][]byte{small, big}},
		{"not listed", rule(Rule{Publish: PublishNone}), nil},
		{"listed again", rule(Rule{}), [][]byte{small, big}},
		{"excluded", rule(Rule{Exclude: []string{"redis"}}), nil},
		{"no rules", nil, nil},
		{"all again", rule(Rule{}), [][]byte{small, big}},
		{"none big enough", rule(Rule{MinLayerSize: 1 << 30}), nil},
		{"and all again", rule(Rule{}), [][]byte{small, big}},
	}
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		indexes := map[string]digest.Digest{}
		for i, step := range steps {
			w := start(t, dir, Options{Rules: step.rules}, nil)
			if i == 0 {
				w.manifest(redis, img)
				w.whole(small)
				w.whole(big)
			}
			w.settle()
			if step.want == nil {
				w.wantNoIndex(img)
			} else {
				d := w.wantIndex(img, step.want...).Digest
				key := fmt.Sprint(step.rules)
				if was, ok := indexes[key]; ok && was != d {
					t.Errorf("index is %s, was %s under the same rules", d, was)
				}
				indexes[key] = d
			}
			if t.Failed() {
				t.Fatalf("at step %q", step.name)
			}
			w.stop()
		}
	})
}

// TestOldIndexStaysUntilTheNewOne: while layers are built for a new rule, the
// index of the old one is listed.
func TestOldIndexStaysUntilTheNewOne(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		img := newImage(t, "img", a)
		w := start(t, dir, Options{Rules: everything}, nil)
		w.manifest(redis, img)
		w.tap(a)
		w.settle()
		old := w.wantIndex(img, a)
		w.stop()

		w = start(t, dir, Options{Rules: []Rule{{Repositories: []string{"**"}, SpanSize: 128 << 10}}}, nil)
		w.settle()
		if got := w.wantIndex(img, a); got.Digest != old.Digest {
			t.Errorf("index is %s before the layer came, want %s still", got.Digest, old.Digest)
		}
		w.tap(a)
		w.settle()
		if got := w.wantIndex(img, a); got.Digest == old.Digest {
			t.Error("index is still the old one")
		}
		if len(w.read(old.Digest)) == 0 {
			t.Error("the old index can't be read by digest any more")
		}
	})
}

func TestMetrics(t *testing.T) {
	a := newLayer(t, 1)
	bad := []byte("not gzip")
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		w.manifest(redis, newImage(t, "img", a, bad))
		w.tap(a)
		w.whole(bad)
		w.settle()
		time.Sleep(time.Minute)
		w.settle()
		for name, tt := range map[string]struct{ got, want float64 }{
			"indexed":   {value(t, w.x.m.builds.WithLabelValues(resultIndexed)), 1},
			"skipped":   {value(t, w.x.m.builds.WithLabelValues(resultSkipped)), 1},
			"failed":    {value(t, w.x.m.builds.WithLabelValues(resultFailed)), 0},
			"malformed": {value(t, w.x.m.skipped.WithLabelValues(ReasonMalformed)), 1},
			"published": {value(t, w.x.m.published), 1},
			"queue":     {value(t, w.x.m.queued), 0},
			"taps":      {value(t, w.x.m.tapsRunning), 0},
			"bytes":     {value(t, w.x.m.buildBytes), float64(len(a) + len(bad))},
		} {
			if tt.got != tt.want {
				t.Errorf("%s is %v, want %v", name, tt.got, tt.want)
			}
		}
	})
}
