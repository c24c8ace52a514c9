package link

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// chunkBytes is what is read and paced at once: under a millisecond at 50 MB/s.
const chunkBytes = 32 << 10

func (l *Link) forward(w http.ResponseWriter, r *http.Request) {
	req := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Range: r.Header.Get("Range"), Start: time.Now()}
	f := l.take(req)
	x := &exchange{link: l, w: w, r: r, fault: f, rec: l.record(req), h2: h2Of(r.Context())}
	if x.h2 != nil {
		x.before = x.h2.sent()
	}
	defer x.rec.done.Store(true)
	l.mu.Lock()
	latency := l.opt.Latency
	l.mu.Unlock()
	if !sleepUntil(r.Context(), req.Start.Add(latency)) {
		return
	}
	switch {
	case f.Silent:
		<-r.Context().Done()
	case f.Refuse && f.Ends == GoAway:
		x.h2.goAway(0, 0)
	case f.Refuse:
		x.cut(Reset)
	case f.Redirect != "":
		x.w.Header().Set("Location", f.Redirect+r.URL.RequestURI())
		x.w.WriteHeader(http.StatusTemporaryRedirect)
		x.rec.status.Store(http.StatusTemporaryRedirect)
	case f.Status != 0:
		x.refuse()
	default:
		x.pass()
	}
}

// exchange is one request and what becomes of it.
type exchange struct {
	link  *Link
	w     http.ResponseWriter
	r     *http.Request
	fault Fault
	rec   *record
	first int64 // offset of the body's first byte in the whole

	h2     *h2Conn // nil: HTTP/1.1
	before int64   // bytes of DATA that it had before this
}

// refuse answers Fault.Status.
func (x *exchange) refuse() {
	body := x.fault.Body
	if body == nil {
		body = []byte(`{"errors":[]}`)
	}
	x.header(http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}})
	x.w.WriteHeader(x.fault.Status)
	x.rec.status.Store(int64(x.fault.Status))
	if x.r.Method != http.MethodHead {
		n, _ := x.w.Write(body)
		x.rec.sent.Add(int64(n))
	}
}

// pass asks the upstream and sends its answer, harmed as the fault says.
func (x *exchange) pass() {
	resp, err := x.ask()
	if err != nil {
		if x.r.Context().Err() == nil {
			x.w.WriteHeader(http.StatusBadGateway)
			x.rec.status.Store(http.StatusBadGateway)
		}
		return
	}
	defer resp.Body.Close()
	x.first = firstByte(resp)
	x.header(resp.Header)
	switch x.fault.Framing {
	case Chunked:
		x.w.Header().Del("Content-Length")
	case UntilEOF: // net/http leaves the body unframed and closes
		x.w.Header().Del("Content-Length")
		x.w.Header().Set("Transfer-Encoding", "identity")
	case LongSized:
		x.w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength+1, 10))
	}
	if x.fault.Ends == Short && resp.ContentLength > x.fault.Cut {
		x.w.Header().Set("Content-Length", strconv.FormatInt(x.fault.Cut, 10))
	}
	if x.fault.Ends == GoAway && x.r.Method == http.MethodHead {
		x.w.Header().Set("Connection", "close") // net/http's way to say GOAWAY
	}
	x.w.WriteHeader(resp.StatusCode)
	x.rec.status.Store(int64(resp.StatusCode))
	if x.fault.Framing == Chunked {
		_ = http.NewResponseController(x.w).Flush() // or net/http counts a short body by itself
	}
	if x.r.Method != http.MethodHead {
		x.copy(resp.Body)
	}
}

func (x *exchange) ask() (*http.Response, error) {
	out, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, x.link.upstream+x.r.URL.RequestURI(), x.r.Body)
	if err != nil {
		return nil, err
	}
	out.Header = x.r.Header.Clone()
	out.ContentLength, out.Host = x.r.ContentLength, x.r.Host
	if x.fault.NoRange {
		out.Header.Del("Range")
	}
	return x.link.client.RoundTrip(out)
}

// header copies h to the answer, and what the fault says over it.
func (x *exchange) header(h http.Header) {
	dst := x.w.Header()
	for k, vs := range h {
		dst[k] = vs
	}
	if x.fault.NoRange {
		dst.Del("Accept-Ranges")
	}
	for k, vs := range x.fault.Header {
		if dst[k] = vs; len(vs) == 0 {
			dst.Del(k)
		}
	}
}

// firstByte is where a 206's body begins, 0 for the others.
func firstByte(resp *http.Response) int64 {
	spec, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	if !ok {
		return 0
	}
	first, _, _ := strings.Cut(spec, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// copy sends the body at the link's pace up to its end or the fault's.
func (x *exchange) copy(body io.Reader) {
	if x.fault.Ends != Whole {
		body = io.LimitReader(body, x.fault.Cut)
	}
	own := pacer{rate: x.fault.Drip}
	buf := make([]byte, chunkBytes)
	for off := x.first; ; {
		n, err := body.Read(buf)
		if n > 0 {
			x.flip(buf[:n], off)
			off += int64(n)
			if !x.send(buf[:n], &own) {
				return
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil { // the upstream's own trouble: passed on
			x.cut(Close)
			return
		}
	}
	x.cut(x.fault.Ends)
}

// flip spoils what of WrongBytes is in p, which begins at off of the whole.
func (x *exchange) flip(p []byte, off int64) {
	for _, at := range x.fault.WrongBytes {
		if at >= off && at < off+int64(len(p)) {
			p[at-off] ^= 1
		}
	}
}

func (x *exchange) send(p []byte, own *pacer) bool {
	now := time.Now()
	x.link.mu.Lock()
	at := x.link.pace.reserve(now, len(p))
	x.link.mu.Unlock()
	if t := own.reserve(now, len(p)); t.After(at) {
		at = t
	}
	if !sleepUntil(x.r.Context(), at) {
		return false
	}
	n, err := x.w.Write(p)
	x.rec.sent.Add(int64(n))
	return err == nil && (x.fault.Ends == Whole || http.NewResponseController(x.w).Flush() == nil)
}

// cut ends the answer in the way of end; Whole and Short need nothing.
func (x *exchange) cut(end End) {
	switch end {
	case Stall:
		_ = http.NewResponseController(x.w).Flush() // the client may be gone: nothing to stall then
		<-x.r.Context().Done()
	case GoAway: // the last stream that there can be: this one is under way
		x.h2.goAway(1<<31-1, x.before+x.fault.Cut)
	case Close, Reset:
		conn, rw, err := http.NewResponseController(x.w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler) // the connection is gone already
		}
		defer conn.Close()
		if tcp, ok := conn.(*net.TCPConn); ok && end == Reset {
			_ = tcp.SetLinger(0)
			return
		}
		_ = rw.Flush()
	}
}
