package trouble

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	l := NewLog(func() time.Time { return now })
	var out bytes.Buffer
	log := slog.New(l.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))
	log.Info("nothing")
	log.Warn("odd", "digest", "x", "req", "1")
	log.Warn("odd", "digest", "x", "req", "2")
	log.With("upstream", "u").Error("bad", "err", strings.Repeat("é", 1000))
	if s := out.String(); strings.Contains(s, "odd") || !strings.Contains(s, "msg=bad upstream=u") {
		t.Errorf("the log itself: %s", s)
	}
	got := l.Entries()
	if len(got) != 2 || got[0].Level != "error" || got[0].Detail != "upstream=u" || !strings.HasPrefix(got[0].Error, "é") || len(got[0].Error) > longest+3 {
		t.Fatalf("entries %+v", got)
	}
	if want := (Entry{Time: now, Level: "warn", Message: "odd", Detail: "digest=x", Count: 2}); got[1] != want {
		t.Errorf("got %+v, want %+v", got[1], want)
	}
	for i := range 2 * most {
		log.Warn("task failed", "kind", "convert", "ref", fmt.Sprint(i), "attempts", i%7, "err", "it is away")
	}
	if got := l.Entries(); len(got) != 3 || got[0].Count != 2*most || got[0].Error != "it is away" || got[0].Detail != fmt.Sprintf("kind=convert ref=%d attempts=%d", 2*most-1, (2*most-1)%7) {
		t.Errorf("many of one kind: %d entries, the newest %+v", len(got), got[0])
	}
	for i := range 2 * most {
		log.Warn("many", "n", fmt.Sprint(i))
	}
	if got := l.Entries(); len(got) != most || got[0].Detail != fmt.Sprintf("n=%d", 2*most-1) {
		t.Errorf("%d entries, the newest %+v", len(got), got[0])
	}
	log.Warn("request", "status", 503, "path", "/a", "err", "upstream u is not asked for another 6.766s: dial tcp 127.0.0.1:40112->127.0.0.1:1: refused")
	log.Warn("request", "status", 503, "path", "/b", "err", "upstream u is not asked for another 1m9.94s: dial tcp 127.0.0.1:50034->127.0.0.1:1: refused")
	if e := l.Entries()[0]; e.Count != 2 || !strings.Contains(e.Error, "another 1m9.94s") || !strings.Contains(e.Error, "50034") {
		t.Errorf("the same with another countdown: %+v", e)
	}
	log.Warn("request", "status", 503, "path", "/b", "err", "upstream u2 is not asked for another 2s: it is away")
	if e := l.Entries()[0]; e.Count != 1 {
		t.Errorf("another upstream: %+v", e)
	}
	now = now.Add(2 * time.Hour)
	if got := l.Entries(); len(got) != 0 {
		t.Errorf("%d entries are older than an hour", len(got))
	}
}

// TestWords: what the log tells by fields alone is told in words.
func TestWords(t *testing.T) {
	l := NewLog(nil)
	h := l.Handler(slog.DiscardHandler)
	for _, c := range []struct {
		msg  string
		args []any
		want string
	}{
		{"request", []any{"method", "GET", "status", 503}, "a request was answered with an error, 503"},
		{"request", []any{"method", "GET", "status", 206}, "an answer was broken off before its end"},
		{"access", []any{"user", "bob", "action", "push"}, "somebody was refused what they may not do: push"},
		{"login", []any{"user", "bob"}, "a login was refused"},
		{"task failed", []any{"kind", "push"}, "an index was not pushed to its upstream"},
		{"task failed", []any{"kind", "other"}, "task failed"},
		{"blob is damaged, forgotten", nil, "blob is damaged, forgotten"},
	} {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, c.msg, 0)
		r.Add(c.args...)
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := l.Entries()[0].Message; got != c.want {
			t.Errorf("%s %v: %q, want %q", c.msg, c.args, got, c.want)
		}
	}
}
