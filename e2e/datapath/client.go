package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// span is bytes [off, end) of a blob; end -1: up to its end, in so many words.
type span struct{ off, end int64 }

// whole is a request without Range.
var whole = span{0, -2}

func (r span) header() string {
	if r.end < 0 {
		return fmt.Sprintf("bytes=%d-", r.off)
	}
	return fmt.Sprintf("bytes=%d-%d", r.off, r.end-1)
}

// answer is what became of one request.
type answer struct {
	status int
	header http.Header
	length int64         // Content-Length
	n      int64         // bytes of the body that came
	first  time.Duration // until the body's first byte, or the answer if it has none
	took   time.Duration // until the body's end
	wire   time.Duration // the same from when there was a connection
	body   []byte        // unless it was compared
	wrong  bool          // a byte of the body is not the original's
	err    error         // of the transport: the body has no clean end, or there is no answer
}

// newClient makes connections of its own: each server's first request dials.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 128},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get asks for r of what is at path. want is the original of the whole, to
// compare with while it comes, or nil: the body is kept then.
func (s *server) get(ctx context.Context, path string, r span, want []byte) *answer {
	return s.getFirst(ctx, path, r, want, -1)
}

// getFirst is get by a client that hangs up after limit bytes; -1: it doesn't.
func (s *server) getFirst(ctx context.Context, path string, r span, want []byte, limit int64) *answer {
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	return s.ask(ctx, http.MethodGet, path, r, &taker{want: want, pos: r.off, limit: limit, partial: r != whole})
}

func (s *server) head(ctx context.Context, path string) *answer {
	return s.ask(ctx, http.MethodHead, path, whole, &taker{limit: -1})
}

func (s *server) ask(ctx context.Context, method, path string, r span, t *taker) *answer {
	a := &answer{}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, nil)
	if err != nil {
		a.err = err
		return a
	}
	if r != whole {
		req.Header.Set("Range", r.header())
	}
	if strings.Contains(path, "/manifests/") {
		req.Header.Set("Accept", v1.MediaTypeImageManifest+", "+v1.MediaTypeImageIndex)
	}
	start := time.Now()
	connected := start
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = time.Now() },
	}))
	resp, err := s.http.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.header, a.length = resp.StatusCode, resp.Header, resp.ContentLength
	a.first = time.Since(start)
	t.take(a, resp.Body, start)
	a.took, a.wire = time.Since(start), time.Since(connected)
	return a
}

// taker reads a body.
type taker struct {
	want    []byte
	pos     int64
	limit   int64
	partial bool
}

func (t *taker) take(a *answer, body io.Reader, start time.Time) {
	if t.partial && a.status != http.StatusPartialContent {
		t.pos = 0
	}
	buf := make([]byte, 128<<10)
	for t.limit < 0 || a.n < t.limit {
		n, err := body.Read(buf)
		if n > 0 && a.n == 0 {
			a.first = time.Since(start)
		}
		a.n += int64(n)
		switch end := t.pos + int64(n); {
		case t.want == nil:
			a.body = append(a.body, buf[:n]...)
		case end > int64(len(t.want)) || !bytes.Equal(buf[:n], t.want[t.pos:end]):
			a.wrong = true
			t.pos = min(end, int64(len(t.want)))
		default:
			t.pos = end
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			a.err = err
			return
		}
	}
}

// fault says what of an answer isn't as it should be: "" if nothing is.
func (a *answer) fault(status int, n int64) string {
	switch {
	case a.err != nil && a.status == 0:
		return fmt.Sprintf("no answer: %v", a.err)
	case a.status != status:
		return fmt.Sprintf("status %d, want %d", a.status, status)
	case a.err != nil:
		return fmt.Sprintf("broke after %d bytes: %v", a.n, a.err)
	case a.wrong:
		return "wrong bytes"
	case a.n != n:
		return fmt.Sprintf("%d bytes, want %d", a.n, n)
	}
	return ""
}

// rangeFault is fault of a 206 for r of size bytes.
func (a *answer) rangeFault(r span, size int64) string {
	if f := a.fault(http.StatusPartialContent, r.end-r.off); f != "" {
		return f
	}
	want := fmt.Sprintf("bytes %d-%d/%d", r.off, r.end-1, size)
	if got := a.header.Get("Content-Range"); got != want {
		return fmt.Sprintf("Content-Range %q, want %q", got, want)
	}
	return ""
}
