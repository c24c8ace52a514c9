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
	// piece is how much is sent before the client's time starts anew.
	piece = 8 << 20
)

// patient is a response body whose client is given up only when it stops
// reading. It forwards ReadFrom, piece by piece, so that a file still reaches
// the socket by the kernel's own copy.
type patient struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newPatient(w http.ResponseWriter) *patient {
	return &patient{w, http.NewResponseController(w)}
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
		n, err := io.Copy(p.w, &io.LimitedReader{R: from.R, N: min(from.N, piece)})
		total += n
		from.N -= n
		if err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}

// more gives the client its time anew. A connection without deadlines, as in a
// test, has none to give.
func (p *patient) more() { _ = p.rc.SetWriteDeadline(time.Now().Add(clientStall)) }

// done takes the limit off the connection, which may serve other requests.
func (p *patient) done() { _ = p.rc.SetWriteDeadline(time.Time{}) }
