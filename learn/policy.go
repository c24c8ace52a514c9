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
	began    time.Time
	offered  bool
	reads    map[spanKey]time.Duration // after began, each span's first
}

// count adds a start to its image's row.
func (p Policy) count(row *storage.LearnRow, o *observed) {
	if o.offered {
		row.Offered++
		return
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
// another set of spans now. size gives a span's compressed bytes, ok is false for
// one that is none of the image's any more.
func (p Policy) settle(row *storage.LearnRow, now time.Time, size func(spanKey) (n int64, ok bool)) (changed bool) {
	if !row.Looked.IsZero() && now.Sub(row.Looked) < p.Round || row.Recent.Starts < p.MinStarts && len(row.Learnt) == 0 {
		return false
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
	row.Learnt, row.Looked = p.within(next, size), now.UTC().Round(0)
	if sameSpans(before, learntSpans(row.Learnt)) {
		return false
	}
	row.Set = row.Looked
	return true
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

// within keeps, of those that the image has, the spans that are needed first,
// up to MaxBytes, by layer and number.
func (p Policy) within(spans map[spanKey]storage.LearntSpan, size func(spanKey) (int64, bool)) (out []storage.LearntLayer) {
	keys := make([]spanKey, 0, len(spans))
	for k := range spans {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b spanKey) int {
		return cmp.Or(cmp.Compare(spans[a].Millis, spans[b].Millis), compareKeys(a, b))
	})
	left := p.MaxBytes
	keys = slices.DeleteFunc(keys, func(k spanKey) bool {
		n, ok := size(k)
		if !ok || n > left {
			return true
		}
		left -= n
		return false
	})
	slices.SortFunc(keys, compareKeys)
	for _, k := range keys {
		if n := len(out); n == 0 || out[n-1].Layer != k.layer || out[n-1].SpanSize != k.spanSize {
			out = append(out, storage.LearntLayer{Layer: k.layer, SpanSize: k.spanSize})
		}
		l := &out[len(out)-1]
		l.Spans = append(l.Spans, spans[k])
	}
	return out
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
