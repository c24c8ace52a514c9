package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	// drawEvery is how often a bar is drawn, and drawAfter from when on: what is
	// over sooner needs none.
	drawEvery = 100 * time.Millisecond
	drawAfter = 300 * time.Millisecond
	// rateAfter is from when on bytes count for the rate: what was here already is
	// told of first, all at once. rateOver is how far the rate looks back.
	rateAfter = time.Second
	rateOver  = 4 * time.Second
)

// progress shows on one line how far a command has come, where a person is
// looking: standard error is a terminal that can take the line away again. Else,
// and for the zero value, nothing is written.
type progress struct{ *bar }

// newProgress begins a line about so many bytes (-1: nobody knows). It is drawn
// until end.
func newProgress(cmd *cobra.Command, bytes int64, what string) progress {
	f, ok := cmd.ErrOrStderr().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return progress{}
	}
	width := func() int {
		n, _, err := term.GetSize(int(f.Fd()))
		if err != nil || n <= 0 {
			return 80
		}
		return n
	}
	b := &bar{what: what, max: bytes, began: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	go b.run(f, width)
	return progress{b}
}

// reader counts what is read from r.
func (p progress) reader(r io.Reader) io.Reader {
	if p.bar == nil {
		return r
	}
	return io.TeeReader(r, p.bar)
}

// set says how many bytes are done.
func (p progress) set(bytes int64) {
	if p.bar != nil {
		p.mu.Lock()
		p.done = bytes
		p.mu.Unlock()
	}
}

// of says how many bytes there are, as far as is known by now.
func (p progress) of(bytes int64) {
	if p.bar != nil {
		p.mu.Lock()
		p.max = bytes
		p.mu.Unlock()
	}
}

// about says what is being done.
func (p progress) about(what string) {
	if p.bar != nil {
		p.mu.Lock()
		p.what = what
		p.mu.Unlock()
	}
}

// end takes the line away. It may be called again.
func (p progress) end() {
	if p.bar != nil {
		p.once.Do(func() { close(p.stop) })
		<-p.stopped
	}
}

// bar is a line that is drawn again and again.
type bar struct {
	began         time.Time
	once          sync.Once
	stop, stopped chan struct{}

	mu        sync.Mutex
	what      string
	done, max int64
	seen      []sample // of the last rateOver
}

// sample is how many bytes were done at a time.
type sample struct {
	at   time.Duration // since the beginning
	done int64
}

// Write counts what passes.
func (b *bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	b.done += int64(len(p))
	b.mu.Unlock()
	return len(p), nil
}

// run draws until end, and then leaves an empty line. That the terminal is gone
// is nobody's concern.
func (b *bar) run(w io.Writer, width func() int) {
	defer close(b.stopped)
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	drawn := false
	for {
		select {
		case <-b.stop:
			if drawn {
				_, _ = io.WriteString(w, "\r\x1b[K")
			}
			return
		case <-tick.C:
		}
		now := time.Since(b.began)
		b.mu.Lock()
		line := b.line(now, width())
		b.mu.Unlock()
		if now >= drawAfter {
			drawn = true
			_, _ = io.WriteString(w, "\r"+line+"\x1b[K")
		}
	}
}

// line is what there is to say after so much time, in less than width columns:
//
//	fetch redis:7 [=======>            ]  36%  27 MiB of 75 MiB  12 MiB/s  4s
func (b *bar) line(now time.Duration, width int) string {
	rate := b.rate(now)
	text := ""
	if b.max > 0 {
		text = fmt.Sprintf(" %3d%%", 100*min(b.done, b.max)/b.max)
	}
	text += "  " + humanize.IBytes(uint64(max(b.done, 0)))
	if b.max > 0 {
		text += " of " + humanize.IBytes(uint64(b.max))
	}
	if rate > 0 {
		text += "  " + humanize.IBytes(uint64(rate)) + "/s"
		if left := float64(b.max - b.done); left > 0 {
			text += "  " + (time.Duration(left/rate*float64(time.Second)) + time.Second).Truncate(time.Second).String()
		}
	}
	const narrowest, widest = 10, 40
	room := width - 1 - len(text)
	what := shorten(b.what, max(room-narrowest-3, room/2))
	if room -= len([]rune(what)); b.max > 0 && room >= narrowest+3 {
		n := min(room-3, widest)
		full := int(int64(n) * min(b.done, b.max) / b.max)
		what += " [" + strings.Repeat("=", full) + strings.Repeat(" ", n-full) + "]"
	}
	return shorten(what+text, width-1)
}

// rate is how many bytes a second there were lately, 0 while that is not known.
func (b *bar) rate(now time.Duration) float64 {
	if now < rateAfter {
		return 0
	}
	b.seen = append(b.seen, sample{now, b.done})
	for len(b.seen) > 1 && now-b.seen[0].at > rateOver {
		b.seen = b.seen[1:]
	}
	first := b.seen[0]
	if now-first.at < rateAfter {
		return 0
	}
	return float64(b.done-first.done) / (now - first.at).Seconds()
}

// shorten cuts the middle out of what has more than so many characters.
func shorten(s string, most int) string {
	r := []rune(s)
	switch {
	case len(r) <= most:
		return s
	case most < 2:
		return string(r[:max(most, 0)])
	}
	head := (most - 1) / 2
	return string(r[:head]) + "…" + string(r[len(r)-(most-1-head):])
}
