package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// fault answers the nth request (from 0) for a blob.
type fault func(w http.ResponseWriter, r *http.Request, data []byte, n int)

// proper answers as a registry should.
func proper(w http.ResponseWriter, r *http.Request, data []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// cutWriter cuts the connection when left bytes have been written.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	p = p[:min(len(p), w.left)]
	n, _ := w.ResponseWriter.Write(p)
	if w.left -= n; w.left == 0 {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// cut answers properly, for n bytes.
func cut(w http.ResponseWriter, r *http.Request, data []byte, n int) {
	proper(&cutWriter{w, n}, r, data)
}

// stalled sends n bytes of an answer and then nothing until the client leaves.
func stalled(w http.ResponseWriter, r *http.Request, data []byte, n int) {
	off, end := asked(r, len(data))
	w.Header().Set("Content-Length", strconv.Itoa(end-off))
	if r.Header.Get("Range") != "" {
		w.Header().Set("Content-Range", oci.Range{Off: int64(off), End: int64(end)}.ContentRange(int64(len(data))))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(data[off:min(off+n, end)])
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// whole ignores Range.
func whole(w http.ResponseWriter, data []byte, length bool) {
	if length {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	}
	for len(data) > 0 { // in pieces, so that net/http doesn't find the length
		n := min(len(data), 10_000)
		_, _ = w.Write(data[:n])
		_ = http.NewResponseController(w).Flush()
		data = data[n:]
	}
}

// partial answers 206 with b and the Content-Range cr.
func partial(w http.ResponseWriter, b []byte, cr string) {
	w.Header().Set("Content-Range", cr)
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(b)
}

// asked is the range that r asks for, [off, end).
func asked(r *http.Request, size int) (off, end int) {
	specs := oci.ParseRange(r.Header.Get("Range"))
	if len(specs) == 0 {
		return 0, size
	}
	rng, _ := specs[0].Resolve(int64(size))
	return int(rng.Off), int(rng.End)
}

const faultySize = 100_000

// faults that are got over: the bytes are right, whatever range is asked for.
var faultsOvercome = map[string]fault{
	"cut twice": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n < 2 {
			cut(w, r, data, 20_000)
			return
		}
		proper(w, r, data)
	},
	"cut before the first byte": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n < 2 {
			panic(http.ErrAbortHandler)
		}
		proper(w, r, data)
	},
	"cut after every thousand bytes": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		cut(w, r, data, 1000)
	},
	"stall": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n == 0 {
			stalled(w, r, data, 5)
			return
		}
		proper(w, r, data)
	},
	"no ranges": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		whole(w, data, true)
	},
	"no ranges and cut": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n == 0 {
			whole(&cutWriter{w, 50_000}, data, true)
		}
		whole(w, data, true)
	},
	"chunked without length": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		whole(w, data, false)
	},
	"chunked without length and cut": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n == 0 {
			whole(&cutWriter{w, 50_000}, data, false)
		}
		whole(w, data, false)
	},
	"chunked and cut, then ranges": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n == 0 {
			whole(&cutWriter{w, 50_000}, data, false)
		}
		proper(w, r, data)
	},
	"chunked and cut before its end": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if n == 0 {
			whole(&cutWriter{w, len(data)}, data, false)
		}
		proper(w, r, data)
	},
	"less than was asked for": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		if r.Header.Get("Range") == "" {
			cut(w, r, data, 30_000)
		}
		off, end := asked(r, len(data))
		end = min(end, off+30_000)
		partial(w, data[off:end], oci.Range{Off: int64(off), End: int64(end)}.ContentRange(int64(len(data))))
	},
	"more than was announced": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		off, end := asked(r, len(data))
		if r.Header.Get("Range") == "" {
			proper(w, r, data)
			return
		}
		w.Header().Set("Content-Range", oci.Range{Off: int64(off), End: int64(end)}.ContentRange(int64(len(data))))
		w.WriteHeader(http.StatusPartialContent)
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(append(bytes.Clone(data[off:end]), "and more"...))
	},
	"broken resumptions": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		off, end := asked(r, len(data))
		size := int64(len(data))
		switch n {
		case 0:
			cut(w, r, data, 1)
		case 1: // from the start again, with the range of what was asked before
			partial(w, data[:end-off], oci.Range{Off: 0, End: int64(end - off)}.ContentRange(size))
		case 2: // of another blob
			partial(w, data[off:end], oci.Range{Off: int64(off), End: int64(end)}.ContentRange(size+1))
		default:
			proper(w, r, data)
		}
	},
	"unreadable resumption": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		switch n {
		case 0:
			cut(w, r, data, 1)
		case 1:
			partial(w, data, "bytes "+strings.Repeat("9", 30))
		default:
			proper(w, r, data)
		}
	},
	"errors in between": func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
		switch n {
		case 0, 3:
			cut(w, r, data, 2)
		case 1, 2, 4:
			w.Header().Set("Retry-After", "0")
			refuse(w, []int{http.StatusInternalServerError, http.StatusTooManyRequests, 0, http.StatusBadGateway}[n-1], "UNAVAILABLE", "")
		default:
			proper(w, r, data)
		}
	},
}

func faultyRegistry(t *testing.T, data []byte, f fault) *registry {
	t.Helper()
	reg := newRegistry(t)
	reg.addBlob(data)
	var n atomic.Int32
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		f(w, r, data, int(n.Add(1))-1)
		return true
	}
	return reg
}

// impatient shortens the stall time-out where the test is about it: elsewhere a
// busy machine must not look like a stalled upstream.
func impatient(name string) func(*Options) {
	return func(o *Options) {
		if strings.Contains(name, "stall") {
			o.StallTimeout = 20 * time.Millisecond
		}
	}
}

func TestBodyResumes(t *testing.T) {
	data := randomBytes(faultySize)
	for name, f := range faultsOvercome {
		for _, r := range []oci.Range{{Off: 0, End: -1}, {Off: 123, End: -1}, {Off: 10_000, End: 70_000}, {Off: 99_990, End: 100_010}} {
			t.Run(fmt.Sprintf("%s/%v", name, r), func(t *testing.T) {
				reg := faultyRegistry(t, data, f)
				c := newClient(t, reg.URL, impatient(name))
				got, err := readBlob(t, c, reg.addBlob(data), r)
				if err != nil {
					t.Fatal(err)
				}
				want := data[r.Off:]
				if r.End >= 0 && r.End < int64(len(data)) {
					want = data[r.Off:r.End]
				}
				if !bytes.Equal(got, want) {
					t.Errorf("got %d bytes, equal: %v; want %d", len(got), bytes.HasPrefix(want, got), len(want))
				}
			})
		}
	}
}

// Faults that nothing helps against: an error, after no more bytes than are right.
var faultsFatal = map[string]struct {
	fault
	r     oci.Range
	check func(error) bool
}{
	"always cut at the same place": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			if off, _ := asked(r, len(data)); off == 500 {
				panic(http.ErrAbortHandler)
			}
			cut(w, r, data, 500)
		}, r: oci.Range{Off: 0, End: -1}, check: IsUnavailable,
	},
	"always stalls": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) { stalled(w, r, data, 0) },
		r:     oci.Range{Off: 0, End: -1}, check: IsUnavailable,
	},
	"another range at first": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			partial(w, data[:10], "bytes 0-9/100000")
		}, r: oci.Range{Off: 10, End: 20}, check: is[*ProtocolError],
	},
	"a longer range": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			partial(w, data[10:30], "bytes 10-29/100000")
		}, r: oci.Range{Off: 10, End: 20}, check: is[*ProtocolError],
	},
	"a range that is not its length": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			partial(w, data[10:15], "bytes 10-19/100000")
		}, r: oci.Range{Off: 10, End: 20}, check: is[*ProtocolError],
	},
	"206 that nobody asked for": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			partial(w, data, "bytes 0-99999/100000")
		}, r: oci.Range{Off: 0, End: -1}, check: is[*ProtocolError],
	},
	"no content": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) { w.WriteHeader(http.StatusNoContent) },
		r:     oci.Range{Off: 0, End: -1}, check: is[*ProtocolError],
	},
	"shrinks": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			if n == 0 {
				cut(w, r, data, 500)
			}
			proper(w, r, data[:1000])
		}, r: oci.Range{Off: 0, End: -1}, check: IsUnavailable,
	},
	"shrinks below what is there": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			if n == 0 {
				cut(w, r, data, 500)
			}
			proper(w, r, data[:100])
		}, r: oci.Range{Off: 0, End: -1}, check: func(err error) bool { return IsUnavailable(err) && !is[*RangeError](err) },
	},
	"shrinks without ranges or length": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			if n == 0 {
				whole(&cutWriter{w, 30_000}, data, false)
			}
			whole(w, data[:20_000], false)
		}, r: oci.Range{Off: 0, End: -1}, check: func(err error) bool { return IsUnavailable(err) && !is[*RangeError](err) },
	},
	"goes away": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			if n == 0 {
				cut(w, r, data, 500)
			}
			refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "gone")
		}, r: oci.Range{Off: 0, End: -1}, check: IsNotFound,
	},
	"outside": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) { proper(w, r, data) },
		r:     oci.Range{Off: faultySize, End: -1}, check: outside(faultySize),
	},
	"outside, no ranges": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) { whole(w, data, true) },
		r:     oci.Range{Off: faultySize, End: faultySize + 1}, check: outside(faultySize),
	},
	"outside, no ranges or length": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) { whole(w, data, false) },
		r:     oci.Range{Off: faultySize + 9, End: -1}, check: outside(faultySize),
	},
	"outside at the end, no ranges or length": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) { whole(w, data, false) },
		r:     oci.Range{Off: faultySize, End: -1}, check: outside(faultySize),
	},
	"denies the first byte": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, r: oci.Range{Off: 0, End: 10}, check: func(err error) bool { return IsUnavailable(err) && !is[*RangeError](err) },
	},
	"denies what is in front of the end": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			w.Header().Set("Content-Range", "bytes */500")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, r: oci.Range{Off: 499, End: -1}, check: func(err error) bool { return IsUnavailable(err) && !is[*RangeError](err) },
	},
	"outside of who knows": {
		fault: func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, r: oci.Range{Off: 1, End: -1}, check: outside(-1),
	},
}

func outside(size int64) func(error) bool {
	return func(err error) bool {
		r, ok := errors.AsType[*RangeError](err)
		return ok && r.Size == size && !IsUnavailable(err)
	}
}

func TestBodyFails(t *testing.T) {
	data := randomBytes(faultySize)
	for name, tc := range faultsFatal {
		t.Run(name, func(t *testing.T) {
			reg := faultyRegistry(t, data, tc.fault)
			c := newClient(t, reg.URL, impatient(name))
			got, err := readBlob(t, c, reg.addBlob(data), tc.r)
			if err == nil || errors.Is(err, io.EOF) || !tc.check(err) {
				t.Errorf("got the error %v", err)
			}
			if !bytes.HasPrefix(data[min(tc.r.Off, faultySize):], got) {
				t.Errorf("got %d wrong bytes", len(got))
			}
			if n := reg.count("/blobs/"); n > 5 {
				t.Errorf("asked %d times, want 5 at most: %d retries and a resumption", n, c.opt.Retries)
			}
		})
	}
}
