package link

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// End is how an answer ends.
type End int

// An answer that does not end Whole ends after Fault.Cut bytes of its body.
const (
	Whole  End = iota
	Close      // the connection is closed in order (FIN), whatever Content-Length said
	Reset      // the connection is reset (RST)
	Stall      // nothing more comes, and the connection stays
	Short      // a clean end: Content-Length, too, is cut
	GoAway     // of HTTP/2: GOAWAY, and the connection is closed behind it; in order behind the answer of a HEAD
)

// Framing is how the length of a body is told.
type Framing int

// The framings of RFC 9112 §6.
const (
	Sized     Framing = iota // as the upstream did: Content-Length
	Chunked                  // Transfer-Encoding: chunked, no length
	UntilEOF                 // the body ends where the connection does
	LongSized                // a Content-Length that is one too large
)

// Fault is what happens to requests that On matches. Several Faults may hit one
// request only if they come one after the other: the first that applies is
// taken.
type Fault struct {
	On    Match // nil: every request
	Skip  int   // so many matching requests pass unharmed first
	Times int   // then so many are hit; 0: all

	Silent     bool        // the request is read and nothing is answered
	Refuse     bool        // the connection is reset before any answer; with Ends GoAway, it ends by that
	Status     int         // answered instead of forwarding, with Body, or an empty error list
	Body       []byte      // of Status
	Redirect   string      // answered instead of forwarding: 307 to the same path there, an http://host:port
	Header     http.Header // set on the answer; an empty list deletes
	NoRange    bool        // as a server that knows no ranges: 200 and the whole
	WrongBytes []int64     // offsets in the whole blob or manifest at which a bit is flipped
	Cut        int64       // see Ends
	Ends       End
	Framing    Framing
	Drip       int64 // bytes a second for this answer; 0: as the link
}

// scheduled is a Fault and how often it has matched.
type scheduled struct {
	Fault
	seen int
}

// Inject adds faults behind those that are there.
func (l *Link) Inject(faults ...Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range faults {
		l.faults = append(l.faults, &scheduled{Fault: f})
	}
}

// Heal removes all faults.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = nil
}

// take finds the fault that hits r; the zero Fault when there is none.
func (l *Link) take(r Request) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.faults {
		if f.On != nil && !f.On(r) {
			continue
		}
		f.seen++
		if n := f.seen - f.Skip; n > 0 && (f.Times == 0 || n <= f.Times) {
			return f.Fault
		}
	}
	return Fault{}
}

// Match tells the requests that are meant.
type Match func(Request) bool

// Method matches a method.
func Method(m string) Match { return func(r Request) bool { return r.Method == m } }

// Blob matches requests for one of ds as a blob, or for any blob if ds is empty.
func Blob(ds ...digest.Digest) Match { return object("/blobs/", ds) }

// Manifest matches requests for one of refs, a tag or digest, as a manifest, or
// for any manifest if refs is empty.
func Manifest(refs ...string) Match { return object("/manifests/", refs) }

// Ranged matches requests with a Range header.
func Ranged(r Request) bool { return r.Range != "" }

// All matches what each of ms does.
func All(ms ...Match) Match {
	return func(r Request) bool {
		for _, m := range ms {
			if !m(r) {
				return false
			}
		}
		return true
	}
}

// Not matches what m doesn't.
func Not(m Match) Match { return func(r Request) bool { return !m(r) } }

func object[S ~string](kind string, refs []S) Match {
	return func(r Request) bool {
		i := strings.LastIndex(r.Path, kind)
		if i < 0 {
			return false
		}
		for _, ref := range refs {
			if r.Path[i+len(kind):] == string(ref) {
				return true
			}
		}
		return len(refs) == 0
	}
}
