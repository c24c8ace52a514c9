package series

import (
	"math"
	"time"
)

// Points is how many steps each Range has.
const Points = 180

// Range is the time that a series is about.
type Range string

// The ranges, as URLs name them.
const (
	Hour Range = "1h"
	Day  Range = "24h"
	Week Range = "7d"
)

// Ranges are all of them, the shortest first.
var Ranges = []Range{Hour, Day, Week}

var spans = map[Range]time.Duration{Hour: time.Hour, Day: 24 * time.Hour, Week: 7 * 24 * time.Hour}

// Step is the time between two points of it.
func (r Range) Step() time.Duration { return spans[r] / Points }

// ring is what was measured over one range: a float for each name and step, NaN
// where nothing was.
type ring struct {
	step int64 // seconds
	last int64 // step number of the newest, Unix time ÷ step; 0: nothing yet
	at   [Points][names]float32
}

func newRing(r Range) *ring { return &ring{step: int64(r.Step() / time.Second)} }

// add counts what happened up to now. Steps in between are empty.
func (r *ring) add(now time.Time, delta *reading) {
	r.advance(now.Unix() / r.step)
	p := &r.at[r.last%Points]
	for n := range names {
		v := float32(delta[n])
		if Name(n) < firstGauge && !isNaN(p[n]) {
			v += p[n]
		}
		p[n] = v
	}
}

// advance makes step the newest one.
func (r *ring) advance(step int64) {
	if step <= r.last {
		return // the clock went back: what happens counts for the newest step
	}
	for s := max(r.last+1, step-Points+1); s <= step; s++ {
		for n := range names {
			r.at[s%Points][n] = float32(math.NaN())
		}
	}
	r.last = step
}

func isNaN(f float32) bool { return f != f } //nolint:gocritic // there is no other way for a float32

// Series is what was measured over a range, oldest first.
type Series struct {
	Range Range
	Step  time.Duration
	End   time.Time // of the newest step
	ring  ring
}

// At gives one value: what was added in step i of Points, or the value at its
// end. ok is false where nothing was measured.
func (s *Series) At(n Name, i int) (v float64, ok bool) {
	step := s.ring.last - Points + 1 + int64(i)
	if s.ring.last == 0 || step < 0 {
		return 0, false
	}
	f := s.ring.at[step%Points][n]
	return float64(f), !isNaN(f)
}

// Sum is what was added over the whole range.
func (s *Series) Sum(n Name) (sum float64) {
	for i := range Points {
		v, _ := s.At(n, i)
		if v == v { //nolint:gocritic // not NaN
			sum += v
		}
	}
	return sum
}

// Time is when step i begins.
func (s *Series) Time(i int) time.Time { return s.End.Add(time.Duration(i-Points) * s.Step) }
