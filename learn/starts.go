package learn

import (
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// background is when a snapshotter begins to read what nobody asked for: so
	// long after it last mounted a layer. What comes from then on is no start's.
	background = 30 * time.Second
	// maxStarts bounds the starts that are watched at once.
	maxStarts = 4096
)

// layerAt is a layer as an image has it indexed.
type layerAt struct {
	layer    digest.Digest
	spanSize int64
}

// startKey is one client and one image.
type startKey struct {
	client   client
	manifest digest.Digest
}

// start is a client that got ready to load an image, and what it has read since.
type start struct {
	key     startKey
	caller  client
	layers  []layerAt // of the image
	offered bool
	ready   time.Time // when it last asked for the index, or mounted a layer
	began   time.Time // when it first read a span; zero: not yet
	reads   map[spanKey]time.Duration
}

// starts are those that are watched. It is for one goroutine.
type starts struct {
	window  time.Duration
	by      map[startKey]*start
	clients map[client]map[*start]struct{}
}

func newStarts(window time.Duration) *starts {
	return &starts{window: window, by: map[startKey]*start{}, clients: map[client]map[*start]struct{}{}}
}

// getReady has a client's next span be the first of a start, if it comes soon.
// full says that one more start can't be watched.
func (s *starts) getReady(k startKey, caller client, layers []layerAt, offered bool, now time.Time) (full bool) {
	x := s.by[k]
	if x != nil && s.over(x, now) && x.began.IsZero() {
		s.drop(x) // it came to nothing
		x = nil
	}
	switch {
	case x != nil && x.began.IsZero():
		x.ready, x.offered = now, x.offered || offered
		return false
	case x != nil: // it asks again while it starts
		x.offered = x.offered || offered
		return false
	case len(s.by) >= maxStarts:
		return true
	}
	x = &start{key: k, caller: caller, layers: layers, offered: offered, ready: now, reads: map[spanKey]time.Duration{}}
	s.by[k] = x
	of := s.clients[k.client]
	if of == nil {
		of = map[*start]struct{}{}
		s.clients[k.client] = of
	}
	of[x] = struct{}{}
	return false
}

// read notes what a client reads of a layer; cover gives the spans of it at a
// span size, last before first where there are none.
func (s *starts) read(c client, layer digest.Digest, now time.Time, cover func(spanSize int64) (first, last int)) {
	for x := range s.clients[c] {
		if s.over(x, now) {
			continue
		}
		for _, l := range x.layers {
			if l.layer != layer {
				continue
			}
			first, last := cover(l.spanSize)
			for i := first; i <= last; i++ {
				if x.began.IsZero() {
					x.began = now
				}
				k := spanKey{l.layer, l.spanSize, i}
				if _, seen := x.reads[k]; !seen {
					x.reads[k] = now.Sub(x.began)
				}
			}
			break // an image may name a layer twice
		}
	}
}

// over reports whether what x reads at now is of its start no more.
func (s *starts) over(x *start, now time.Time) bool { return !now.Before(s.end(x)) }

// end is when a start is over, or comes to nothing: a window after its first
// span, and never so late that what it reads may be for the background's sake.
func (s *starts) end(x *start) time.Time {
	end := x.ready.Add(max(s.window, background-time.Second))
	if x.began.IsZero() {
		return end
	}
	if own := x.began.Add(s.window); own.Before(end) {
		return own
	}
	return end
}

// finished takes out those that are over, and gives those in which something
// was read.
func (s *starts) finished(now time.Time) (out []*observed) {
	for k, x := range s.by {
		if !s.over(x, now) {
			continue
		}
		s.drop(x)
		if len(x.reads) > 0 {
			out = append(out, &observed{manifest: k.manifest, caller: x.caller, began: x.began, offered: x.offered, reads: x.reads})
		}
	}
	return out
}

func (s *starts) drop(x *start) {
	delete(s.by, x.key)
	of := s.clients[x.key.client]
	delete(of, x)
	if len(of) == 0 {
		delete(s.clients, x.key.client)
	}
}

// mounted notes that a client that has not begun to read mounts one more layer.
func (s *starts) mounted(c client, layer digest.Digest, now time.Time) {
	for x := range s.clients[c] {
		if !x.began.IsZero() || s.over(x, now) {
			continue
		}
		for _, l := range x.layers {
			if l.layer == layer {
				x.ready = now
			}
		}
	}
}
