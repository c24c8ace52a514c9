// Package trouble remembers the warnings and errors of the last hour, so that
// who runs the proxy sees them beside what they are about. It is a slog.Handler
// in front of the log's own; what is below a warning passes it untouched.
package trouble

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// most is how many different ones are remembered.
	most = 200
	// longest bounds what is kept of one.
	longest = 500
	// kept is for how long.
	kept = time.Hour
)

// Entry is one warning or error, however often it came in a row.
type Entry struct {
	Time    time.Time `json:"time"` // the last time
	Level   string    `json:"level"`
	Message string    `json:"message"`          // in words
	Error   string    `json:"error,omitempty"`  // why
	Detail  string    `json:"detail,omitempty"` // its other fields, as in the log
	Count   int       `json:"count"`
	kind    string    // what is the same when it happens again
	why     string    // Error without what differs each time
}

// Log remembers. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	list []Entry // oldest first
	now  func() time.Time
}

// NewLog makes a Log; now nil is time.Now.
func NewLog(now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	return &Log{now: now}
}

// Entries gives those of the last hour, newest first.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.now().Add(-kept)
	out := []Entry{}
	for i := len(l.list) - 1; i >= 0; i-- {
		if l.list[i].Time.After(since) {
			out = append(out, l.list[i])
		}
	}
	return out
}

func (l *Log) add(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.list) - 1; i >= 0; i-- {
		if x := l.list[i]; x.Message == e.Message && x.Level == e.Level && x.why == e.why && x.kind == e.kind && (e.kind+e.why != "" || x.Detail == e.Detail) {
			e.Count += x.Count
			l.list = append(l.list[:i], l.list[i+1:]...)
			break
		}
	}
	if len(l.list) == most {
		l.list = append(l.list[:0], l.list[1:]...)
	}
	l.list = append(l.list, e)
}

// Handler gives next what it wants, and remembers warnings and errors.
func (l *Log) Handler(next slog.Handler) slog.Handler { return &handler{log: l, next: next} }

type handler struct {
	log   *Log
	next  slog.Handler
	attrs fields // of With
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.next.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		b := h.attrs
		r.Attrs(func(a slog.Attr) bool {
			b.write(a)
			return true
		})
		h.log.add(Entry{
			Time: h.log.now().UTC(), Level: strings.ToLower(r.Level.String()), Message: clip(sentence(r)),
			Error: clip(b.err), Detail: clip(strings.TrimSpace(b.all)), Count: 1, kind: clip(b.kind), why: clip(passed.ReplaceAllString(b.err, "…")),
		})
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := h.attrs
	for _, a := range attrs {
		b.write(a)
	}
	return &handler{h.log, h.next.WithAttrs(attrs), b}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.log, h.next.WithGroup(name), h.attrs}
}

// passing are the fields that differ each time, and what names one of many of the
// same kind: without them, what happens again is seen to be the same. The newest
// is shown with all that it has but the first four.
var (
	passing = map[string]bool{"req": true, "client": true, "dur": true, "stack": true}
	naming  = map[string]bool{"attempts": true, "attempt": true, "ref": true, "digest": true, "path": true, "bytes": true, "id": true, "image": true, "layer": true}
)

// passed is what differs in an error each time: how long something took or is yet to
// take, and the port that a connection came from.
var passed = regexp.MustCompile(`\b(\d+(\.\d+)?(h|ms|m|µs|ns|s))+\b|:\d+->`)

// fields are written ones: those that are shown, and those that tell its kind.
type fields struct{ all, kind, err string }

func (f *fields) write(a slog.Attr) {
	if passing[a.Key] {
		return
	}
	if a.Key == "err" {
		f.err = a.Value.Resolve().String()
		return
	}
	if len(f.all) > longest {
		return
	}
	s := fmt.Sprintf("%s=%v ", a.Key, a.Value.Resolve())
	f.all += s
	if !naming[a.Key] {
		f.kind += s
	}
}

func clip(s string) string {
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}
