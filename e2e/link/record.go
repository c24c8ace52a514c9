package link

import (
	"sync/atomic"
	"time"
)

// Request is one request that came to the link, and its answer so far.
type Request struct {
	Method string
	Path   string
	Query  string
	Range  string // the header
	Start  time.Time
	Status int   // 0: no answer yet, or none at all
	Sent   int64 // bytes of the body handed to the connection
	Done   bool
}

// record is a Request that is still being answered.
type record struct {
	Request // Method to Start; fixed
	status  atomic.Int64
	sent    atomic.Int64
	done    atomic.Bool
}

func (l *Link) record(r Request) *record {
	rec := &record{Request: r}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, rec)
	return rec
}

// Requests lists what came since Start or Forget and matches each of ms, in the
// order of arrival.
func (l *Link) Requests(ms ...Match) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rs []Request
	for _, rec := range l.log {
		r := rec.Request
		r.Status, r.Sent, r.Done = int(rec.status.Load()), rec.sent.Load(), rec.done.Load()
		if All(ms...)(r) {
			rs = append(rs, r)
		}
	}
	return rs
}

// Bytes is the sum of Sent over Requests(ms...).
func (l *Link) Bytes(ms ...Match) (n int64) {
	for _, r := range l.Requests(ms...) {
		n += r.Sent
	}
	return n
}

// Forget empties the list of requests.
func (l *Link) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = nil
}
