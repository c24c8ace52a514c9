package learn

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/storage"
)

// TestNothingFlapsAtTheBound: of two spans that are read at about the same moment
// and of which one fits, the one that was learnt stays.
func TestNothingFlapsAtTheBound(t *testing.T) {
	p := Policy{MaxBytes: 100}.complete()
	var row storage.LearnRow
	changes := 0
	for round := range 10 {
		at := noon.Add(time.Duration(round) * p.Round)
		for i := range 2 {
			spans := []int{0, 1}
			if round%2 == 1 {
				spans = []int{1, 0}
			}
			p.count(&row, by(i, saw(at.Add(time.Duration(i)*time.Second), spans...)))
		}
		if settle(t, p, &row, at.Add(time.Minute), hundred) {
			changes++
		}
	}
	if got := learnt(&row); changes != 1 || !slices.Equal(got, []int{0}) {
		t.Errorf("%d changes, learnt %v", changes, got)
	}
}

// TestErrorForgetsNothing: a round in which it can't be said what the image has
// does not end, and changes nothing.
func TestErrorForgetsNothing(t *testing.T) {
	p := Policy{}.complete()
	var row storage.LearnRow
	p.count(&row, by(1, saw(noon, 1, 2)))
	p.count(&row, by(2, saw(noon, 1, 2)))
	settle(t, p, &row, noon, hundred)
	before := row
	broken := errors.New("disk on fire")
	changed, err := p.settle(&row, noon.Add(2*p.Round), func(spanKey) (int64, bool, error) { return 0, false, broken })
	if changed || !errors.Is(err, broken) {
		t.Errorf("changed %t, %v", changed, err)
	}
	if diff := cmp.Diff(before, row); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// TestWhoCounts: a caller counts once a round, and no start that reads nearly all
// of an image that is not small.
func TestWhoCounts(t *testing.T) {
	p := Policy{Round: time.Hour}.complete()
	read := func(o *observed, bytes, total int64) *observed {
		o.bytes, o.total = bytes, total
		return o
	}
	var row storage.LearnRow
	for _, tc := range []struct {
		name string
		o    *observed
		want string
	}{
		{"the first", by(1, saw(noon, 1)), startCounted},
		{"again", by(1, saw(noon.Add(time.Minute), 1)), startIgnored},
		{"another", by(2, saw(noon.Add(time.Minute), 1)), startCounted},
		{"one with what was learnt", by(3, offered(saw(noon.Add(time.Minute), 1))), startOffered},
		{"and then without", by(3, saw(noon.Add(2*time.Minute), 1)), startCounted},
		{"all of a large image", read(by(4, saw(noon.Add(2*time.Minute), 1)), 60<<20, 64<<20), startIgnored},
		{"then less of it", read(by(4, saw(noon.Add(2*time.Minute), 1)), 40<<20, 64<<20), startCounted},
		{"all of a small one", read(by(5, saw(noon.Add(2*time.Minute), 1)), 20<<20, 20<<20), startCounted},
		{"the first, in the next round", by(1, saw(noon.Add(time.Hour), 1)), startCounted},
	} {
		if got := p.count(&row, tc.o); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if row.Starts != 6 || row.Offered != 1 || row.Ignored != 2 || row.Recent.Starts != 6 {
		t.Errorf("%+v", row)
	}
}
