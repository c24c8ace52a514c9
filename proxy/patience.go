package proxy

import (
	"io"
	"net/http"
	"time"
)

const (
	// clientStall is how long a client may take for one piece of a body. It is
	// no limit on the whole: a slow client that goes on is a good one.
	clientStall = 2 * time.Minute
	// minPiece and maxPiece bound how much is sent before the client's time starts anew,
	// which is more for who is quick: each piece has a price, and a client that takes
	// some 9 kB a second is a good one.
	minPiece, maxPiece = 1 << 20, 8 << 20
	// quickPiece and slowPiece are how long one takes of which the next is larger, and
	// smaller.
	quickPiece, slowPiece = 100 * time.Millisecond, clientStall / 16
)

// patient is a response body whose client is given up only when it stops
// reading. It forwards ReadFrom, piece by piece, so that a file still reaches
// the socket by the kernel's own copy.
type patient struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	given time.Time // when the client's time last began
	piece int64
}

// newPatient is for a body whose header was just written, through bounded.
func newPatient(w http.ResponseWriter) *patient {
	return &patient{w: w, rc: http.NewResponseController(w), given: time.Now(), piece: minPiece}
}

func (p *patient) Write(b []byte) (int, error) {
	p.more()
	return p.w.Write(b)
}

// ReadFrom copies src, which is at most a LimitedReader around a file.
func (p *patient) ReadFrom(src io.Reader) (total int64, err error) {
	from, ok := src.(*io.LimitedReader)
	if !ok {
		from = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	for from.N > 0 {
		p.more()
		start := time.Now()
		n, err := io.Copy(p.w, &io.LimitedReader{R: from.R, N: min(from.N, p.piece)})
		total += n
		from.N -= n
		if err != nil || n == 0 {
			return total, err
		}
		switch took := time.Since(start); {
		case took < quickPiece:
			p.piece = min(2*p.piece, maxPiece)
		case took > slowPiece:
			p.piece = max(p.piece/2, minPiece)
		}
	}
	return total, nil
}

// more gives the client its time anew, where some of it is gone. A connection
// without deadlines, as in a test, has none to give.
func (p *patient) more() {
	now := time.Now()
	if now.Sub(p.given) < clientStall/64 {
		return
	}
	p.given = now
	_ = p.rc.SetWriteDeadline(now.Add(clientStall))
}

// done gives the client its time for the rest, which net/http still holds.
func (p *patient) done() { p.more() }

// bounded is a ResponseWriter that gives its client clientStall for the answer,
// from its header on: none may hold a connection by not reading. Bodies that
// take longer are sent through patient, which gives more time piece by piece.
type bounded struct {
	http.ResponseWriter
	rc   *http.ResponseController
	sent bool // a header
}

func newBounded(w http.ResponseWriter) *bounded {
	return &bounded{ResponseWriter: w, rc: http.NewResponseController(w)}
}

// start sets the deadline, when the answer begins and not before: how long that
// takes is no matter of the client's.
func (b *bounded) start() {
	if !b.sent {
		b.sent = true
		_ = b.rc.SetWriteDeadline(time.Now().Add(clientStall)) // a test's writer may have none
	}
}

func (b *bounded) WriteHeader(status int) {
	b.start()
	b.ResponseWriter.WriteHeader(status)
}

func (b *bounded) Write(p []byte) (int, error) {
	b.start()
	return b.ResponseWriter.Write(p)
}

// ReadFrom lets net/http see the source itself: sendfile needs *os.File.
func (b *bounded) ReadFrom(src io.Reader) (int64, error) {
	b.start()
	return io.Copy(b.ResponseWriter, src)
}

// Unwrap serves http.ResponseController.
func (b *bounded) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// done sends what net/http still holds while the deadline stands, and takes it
// off the connection, which may serve other requests.
func (b *bounded) done() {
	b.start()
	_ = b.rc.Flush() // a client that left is nobody's loss
	_ = b.rc.SetWriteDeadline(time.Time{})
}
