package learn

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// Policy says what is learnt from starts. Zero fields mean what their comments
// say.
type Policy struct {
	Window    time.Duration // a start's reads are those within it from its first; 0: 25 s
	MinStarts int           // what was read in less starts is not looked at; 0: 2
	Sample    int           // percent of the clients that are not offered what was learnt; 0: none, until it is about to expire
	Round     time.Duration // it is looked so often at most what is to be learnt; 0: 24 h
	Expire    time.Duration // a span that no start confirmed for so long is forgotten; 0: 30 days
	MaxBytes  int64         // compressed, of an image, that may be learnt; 0: 512 MiB
}

func (p Policy) complete() Policy {
	p.Window = cmp.Or(p.Window, 25*time.Second)
	p.MinStarts = cmp.Or(p.MinStarts, 2)
	p.Round = cmp.Or(p.Round, 24*time.Hour)
	p.Expire = cmp.Or(p.Expire, 30*24*time.Hour)
	p.MaxBytes = cmp.Or(p.MaxBytes, 512<<20)
	return p
}

// maxRecent is how many starts are counted until all counts are halved, so that
// what starts read of late outweighs what earlier ones did.
const maxRecent = 32

// spanKey names a span.
type spanKey struct {
	layer    digest.Digest
	spanSize int64
	span     int
}

// observed is a start that is over.
type observed struct {
	manifest digest.Digest
	caller   client
	began    time.Time
	offered  bool
	reads    map[spanKey]time.Duration // after began, each span's first

	bytes, total int64 // that it read, and that the image's indexed layers have
}

const (
	// maxCounted bounds the callers that are known to have been counted.
	maxCounted = 256
	// smallImage is what an image may have that starts do read nearly all of.
	smallImage = 32 << 20
)

// greedy reports a start that read more than three quarters of an image that is
// not small. A program needs a few percent; who reads so much in so short a time
// copies, or wants others to. What such a start says is: everything, which
// nobody needs to be told.
func (o *observed) greedy() bool { return o.total > smallImage && o.bytes > o.total/4*3 }

// again reports whether caller was counted within a round before at, and notes
// that it is now where it was not.
func (p Policy) again(row *storage.LearnRow, caller client, at time.Time) bool {
	row.Counted = slices.DeleteFunc(row.Counted, func(c storage.CountedCaller) bool {
		return at.Unix()-c.At >= int64(p.Round/time.Second)
	})
	if slices.ContainsFunc(row.Counted, func(c storage.CountedCaller) bool { return c.Who == uint64(caller) }) {
		return true
	}
	row.Counted = append(row.Counted, storage.CountedCaller{Who: uint64(caller), At: at.Unix()})
	if n := len(row.Counted); n > maxCounted {
		row.Counted = row.Counted[n-maxCounted:]
	}
	return false
}

// count adds a start to its image's row, and says how it was taken. A caller counts
// once a round: nobody says alone what all others are to fetch.
func (p Policy) count(row *storage.LearnRow, o *observed) (kind string) {
	if o.offered {
		row.Offered++
		return startOffered
	}
	if o.greedy() || p.again(row, o.caller, o.began) {
		row.Ignored++
		return startIgnored
	}
	row.Starts++
	if o.began.After(row.Confirmed) {
		row.Confirmed = o.began.UTC().Round(0)
	}
	for i := range row.Learnt {
		l := &row.Learnt[i]
		for j := range l.Spans {
			if _, read := o.reads[spanKey{l.Layer, l.SpanSize, l.Spans[j].Span}]; read {
				l.Spans[j].Read = max(l.Spans[j].Read, o.began.Unix())
			}
		}
	}
	addRecent(&row.Recent, o)
	return startCounted
}

func addRecent(r *storage.RecentStarts, o *observed) {
	if r.Starts >= maxRecent {
		halve(r)
	}
	r.Starts++
	keys := make([]spanKey, 0, len(o.reads))
	for k := range o.reads {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	for _, k := range keys {
		s := recentSpan(r, k)
		s.Starts++
		s.Millis += o.reads[k].Milliseconds()
		s.Read = max(s.Read, o.began.Unix())
	}
}

// recentSpan finds or makes the count of k.
func recentSpan(r *storage.RecentStarts, k spanKey) *storage.RecentSpan {
	i, ok := slices.BinarySearchFunc(r.Layers, k, func(l storage.RecentLayer, k spanKey) int {
		return cmp.Or(cmp.Compare(l.Layer, k.layer), cmp.Compare(l.SpanSize, k.spanSize))
	})
	if !ok {
		r.Layers = slices.Insert(r.Layers, i, storage.RecentLayer{Layer: k.layer, SpanSize: k.spanSize})
	}
	l := &r.Layers[i]
	j, ok := slices.BinarySearchFunc(l.Spans, k.span, func(s storage.RecentSpan, n int) int { return cmp.Compare(s.Span, n) })
	if !ok {
		l.Spans = slices.Insert(l.Spans, j, storage.RecentSpan{Span: k.span})
	}
	return &l.Spans[j]
}

// halve forgets half of the starts, and what was read in so few that nothing of
// it remains.
func halve(r *storage.RecentStarts) {
	r.Starts /= 2
	for i := range r.Layers {
		l := &r.Layers[i]
		for j := range l.Spans {
			s := &l.Spans[j]
			s.Starts, s.Millis = s.Starts/2, s.Millis/2
		}
		l.Spans = slices.DeleteFunc(l.Spans, func(s storage.RecentSpan) bool { return s.Starts == 0 })
	}
	r.Layers = slices.DeleteFunc(r.Layers, func(l storage.RecentLayer) bool { return len(l.Spans) == 0 })
}

func compareKeys(a, b spanKey) int {
	return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.spanSize, b.spanSize), cmp.Compare(a.span, b.span))
}

// settle ends the round of an image where that is due: it learns what its recent
// starts need, and forgets what has expired. It reports whether what was learnt is
// another set of spans now. An error of size leaves the round unended, and all that
// was learnt.
func (p Policy) settle(row *storage.LearnRow, now time.Time, size sizes) (changed bool, err error) {
	if !row.Looked.IsZero() && now.Sub(row.Looked) < p.Round || row.Recent.Starts < p.MinStarts && len(row.Learnt) == 0 {
		return false, nil
	}
	before := learntSpans(row.Learnt)
	next := p.needed(&row.Recent)
	for k, s := range before {
		if new, ok := next[k]; ok {
			s.Millis, s.Read = new.Millis, max(s.Read, new.Read)
		}
		next[k] = s
	}
	for k, s := range next {
		if now.Unix()-s.Read > int64(p.Expire/time.Second) {
			delete(next, k)
		}
	}
	learnt, err := p.within(next, before, size)
	if err != nil {
		return false, err
	}
	row.Learnt, row.Looked = learnt, now.UTC().Round(0)
	if sameSpans(before, learntSpans(row.Learnt)) {
		return false, nil
	}
	row.Set = row.Looked
	return true, nil
}

// needed are the spans that at least half of enough starts read.
func (p Policy) needed(r *storage.RecentStarts) map[spanKey]storage.LearntSpan {
	out := map[spanKey]storage.LearntSpan{}
	if r.Starts < p.MinStarts {
		return out
	}
	for i := range r.Layers {
		l := &r.Layers[i]
		for _, s := range l.Spans {
			if 2*s.Starts >= r.Starts {
				out[spanKey{l.Layer, l.SpanSize, s.Span}] = storage.LearntSpan{Span: s.Span, Millis: s.Millis / int64(s.Starts), Read: s.Read}
			}
		}
	}
	return out
}

// within keeps, of those that the image has, up to MaxBytes, the spans that were
// learnt before, so that none takes another's place and gives it back, and then
// those that are needed first; by layer and number.
func (p Policy) within(spans, before map[spanKey]storage.LearntSpan, size sizes) (out []storage.LearntLayer, err error) {
	keys := make([]spanKey, 0, len(spans))
	for k := range spans {
		keys = append(keys, k)
	}
	rank := func(k spanKey) int {
		if _, was := before[k]; was {
			return 0
		}
		return 1
	}
	slices.SortFunc(keys, func(a, b spanKey) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(spans[a].Millis, spans[b].Millis), compareKeys(a, b))
	})
	left := p.MaxBytes
	keep := keys[:0]
	for _, k := range keys {
		n, ok, err := size(k)
		if err != nil {
			return nil, err
		}
		if ok && n <= left {
			left -= n
			keep = append(keep, k)
		}
	}
	keys = keep
	slices.SortFunc(keys, compareKeys)
	for _, k := range keys {
		if n := len(out); n == 0 || out[n-1].Layer != k.layer || out[n-1].SpanSize != k.spanSize {
			out = append(out, storage.LearntLayer{Layer: k.layer, SpanSize: k.spanSize})
		}
		l := &out[len(out)-1]
		l.Spans = append(l.Spans, spans[k])
	}
	return out, nil
}

func learntSpans(layers []storage.LearntLayer) map[spanKey]storage.LearntSpan {
	out := map[spanKey]storage.LearntSpan{}
	for i := range layers {
		l := &layers[i]
		for _, s := range l.Spans {
			out[spanKey{l.Layer, l.SpanSize, s.Span}] = s
		}
	}
	return out
}

func sameSpans(a, b map[spanKey]storage.LearntSpan) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}

// byNeed gives what was learnt, those spans that starts read first first.
func byNeed(layers []storage.LearntLayer) []spanKey {
	spans := learntSpans(layers)
	keys := make([]spanKey, 0, len(spans))
	for k := range spans {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b spanKey) int {
		return cmp.Or(cmp.Compare(spans[a].Millis, spans[b].Millis), compareKeys(a, b))
	})
	return keys
}
