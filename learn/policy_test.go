package learn

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

var (
	layerA = digest.FromString("a")
	noon   = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)
)

const spanSize = 1 << 20

// saw is a start that read these spans of layerA, in this order.
func saw(at time.Time, spans ...int) *observed {
	o := &observed{manifest: digest.FromString("image"), began: at, reads: map[spanKey]time.Duration{}}
	for i, n := range spans {
		o.reads[spanKey{layerA, spanSize, n}] = time.Duration(i) * time.Second
	}
	return o
}

func offered(o *observed) *observed {
	o.offered = true
	return o
}

// learnt are the numbers of the spans of layerA.
func learnt(row *storage.LearnRow) (out []int) {
	for i := range row.Learnt {
		for _, s := range row.Learnt[i].Spans {
			out = append(out, s.Span)
		}
	}
	return out
}

// hundred is the size of each of a layer's first thousand spans.
func hundred(k spanKey) (int64, bool, error) { return 100, k.layer == layerA && k.span < 1000, nil }

// by is a start of somebody.
func by(caller int, o *observed) *observed {
	o.caller = client(caller)
	return o
}

// settle is p.settle, where nothing fails.
func settle(t *testing.T, p Policy, row *storage.LearnRow, now time.Time, size sizes) bool {
	t.Helper()
	changed, err := p.settle(row, now, size)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestLearn(t *testing.T) {
	day := 24 * time.Hour
	for name, tc := range map[string]struct {
		policy Policy
		starts []*observed
		want   []int
	}{
		"one start is not enough":      {starts: []*observed{saw(noon, 1, 2)}},
		"what half of them read":       {starts: []*observed{saw(noon, 1, 2), saw(noon, 2, 3)}, want: []int{1, 2, 3}},
		"less than half is left out":   {policy: Policy{MinStarts: 3}, starts: []*observed{saw(noon, 1, 2), saw(noon, 2, 3), saw(noon, 2, 3)}, want: []int{2, 3}},
		"those offered do not count":   {starts: []*observed{saw(noon, 1), offered(saw(noon, 1)), offered(saw(noon, 1))}},
		"the first first, up to bytes": {policy: Policy{MaxBytes: 250}, starts: []*observed{saw(noon, 9, 1, 5), saw(noon, 9, 1, 5)}, want: []int{1, 9}},
		"spans that the layer has not": {starts: []*observed{saw(noon, 7, 1000), saw(noon, 7, 1000)}, want: []int{7}},
		"added in a later round":       {starts: []*observed{saw(noon, 1), saw(noon, 1), saw(noon.Add(time.Hour), 1, 2), saw(noon.Add(day), 1, 2)}, want: []int{1, 2}},
		"not within the round":         {starts: []*observed{saw(noon, 1), saw(noon, 1), saw(noon.Add(time.Hour), 1, 2), saw(noon.Add(day-time.Second), 1, 2)}, want: []int{1}},
		"what is still read stays":     {starts: []*observed{saw(noon, 1, 2), saw(noon, 1, 2), saw(noon.Add(20*day), 1), saw(noon.Add(40*day), 1)}, want: []int{1}},
		"what nobody confirmed goes":   {starts: []*observed{saw(noon, 1), saw(noon, 1), offered(saw(noon.Add(31*day), 1))}},
		"and is learnt anew":           {starts: []*observed{saw(noon, 1), saw(noon, 1), saw(noon.Add(31*day), 3), saw(noon.Add(33*day), 3)}, want: []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.policy.complete()
			var row storage.LearnRow
			for i, o := range tc.starts {
				p.count(&row, by(i, o))
				settle(t, p, &row, o.began, hundred)
			}
			if diff := cmp.Diff(tc.want, learnt(&row)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingFlaps lets starts come for a year that read a span of their own
// each, and one that every other one reads: what was learnt changes once a round
// at most, and a span that went does not come back unless starts read it again.
func TestNothingFlaps(t *testing.T) {
	p := Policy{}.complete()
	var row storage.LearnRow
	var last time.Time
	changes := 0
	for i := range 365 * 4 {
		at := noon.Add(time.Duration(i) * 6 * time.Hour)
		spans := []int{0, 1, 100 + i%800}
		if i%2 == 0 {
			spans = append(spans, 2)
		}
		p.count(&row, by(i, saw(at, spans...)))
		before := fmt.Sprint(learnt(&row))
		changed := settle(t, p, &row, at, hundred)
		if changed != (before != fmt.Sprint(learnt(&row))) {
			t.Fatalf("%s: changed %v, from %s to %v", at, changed, before, learnt(&row))
		}
		if !changed {
			continue
		}
		if changes++; !last.IsZero() && at.Sub(last) < p.Round {
			t.Fatalf("changed at %s and at %s", last, at)
		}
		last = at
		got := learnt(&row)
		if len(got) < 3 || got[0] != 0 || got[1] != 1 || got[2] != 2 {
			t.Fatalf("%s: what every other start reads is not learnt: %v", at, got)
		}
	}
	if changes < 1 || changes > 3 { // the first two starts' own, until they expire
		t.Errorf("%d changes", changes)
	}
}

// TestEqualStartsEqualRows: the order in which spans of a start are counted does
// not show.
func TestEqualStartsEqualRows(t *testing.T) {
	p := Policy{}.complete()
	var a, b storage.LearnRow
	p.count(&a, by(1, saw(noon, 3, 1, 2)))
	p.count(&a, by(2, saw(noon, 5, 4)))
	p.count(&b, by(2, saw(noon, 5, 4)))
	p.count(&b, by(1, saw(noon, 3, 1, 2)))
	settle(t, p, &a, noon, hundred)
	settle(t, p, &b, noon, hundred)
	a.Counted, b.Counted = nil, nil
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("(-one order +the other):\n%s", diff)
	}
}

func TestRecentIsBounded(t *testing.T) {
	p := Policy{MinStarts: 1 << 20}.complete()
	var row storage.LearnRow
	for i := range 100 * maxRecent {
		p.count(&row, by(i, saw(noon, 1, 10+i)))
	}
	if got := row.Recent; got.Starts > maxRecent || len(got.Layers[0].Spans) > maxRecent+1 || row.Starts != 100*maxRecent {
		t.Errorf("%d spans of %d of %d starts", len(got.Layers[0].Spans), got.Starts, row.Starts)
	}
	if len(row.Counted) > maxCounted {
		t.Errorf("%d callers are remembered", len(row.Counted))
	}
}

// TestSample: about the share of the clients is left out, always the same ones of
// a day, others the next; near the end ever more, and in the end all.
func TestSample(t *testing.T) {
	p := Policy{Sample: 10}.complete()
	image := digest.FromString("image")
	share := func(confirmed, now time.Time) (n int) {
		for c := range 1000 {
			if p.sampled(client(c), image, confirmed, now) {
				n++
			}
			if p.sampled(client(c), image, confirmed, now) != p.sampled(client(c), image, confirmed, now.Add(time.Second)) && now.Sub(confirmed) < p.Expire/2 {
				t.Fatalf("client %d is treated in two ways on one day", c)
			}
		}
		return n
	}
	for _, tc := range []struct {
		age      time.Duration
		min, max int
	}{
		{0, 60, 140}, {14 * 24 * time.Hour, 60, 140}, {22*24*time.Hour + 12*time.Hour, 480, 620}, {30 * 24 * time.Hour, 1000, 1000},
	} {
		if n := share(noon, noon.Add(tc.age)); n < tc.min || n > tc.max {
			t.Errorf("after %s: %d of 1000 clients are left out, want %d to %d", tc.age, n, tc.min, tc.max)
		}
	}
	differ := 0
	for c := range 1000 {
		if p.sampled(client(c), image, noon, noon) != p.sampled(client(c), image, noon, noon.Add(24*time.Hour)) {
			differ++
		}
	}
	if differ < 100 {
		t.Errorf("the next day %d clients are treated otherwise", differ)
	}
	none := Policy{}.complete()
	for c := range 1000 {
		if none.sampled(client(c), image, noon, noon) {
			t.Fatal("a client is left out where none is to be")
		}
	}
}
