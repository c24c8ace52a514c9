package oci

import (
	"io"
	"net/http"
)

// Handler answers a request or returns the reason why not, before anything was
// written. Of one that comes after a header the client hears nothing: the
// connection is cut with panic(http.ErrAbortHandler), so that nobody takes a
// short body for a whole one.
type Handler func(http.ResponseWriter, *http.Request) error

// ServeHTTP makes a Handler an http.Handler; see WriteError.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec, ok := w.(*Recorder)
	if !ok {
		rec = &Recorder{ResponseWriter: w}
	}
	err := h(rec, r)
	if err == nil {
		return
	}
	rec.Err = err
	if rec.Status != 0 {
		panic(http.ErrAbortHandler)
	}
	WriteError(rec, r, err)
}

// Recorder is a ResponseWriter that remembers what left, for the access line
// and the metrics. It forwards ReadFrom, so that a file still reaches the
// socket by the kernel's own copy, and unwraps for http.ResponseController.
type Recorder struct {
	http.ResponseWriter
	Status int   // 0 until a header was written
	Bytes  int64 // of the body
	Err    error // what the Handler returned
}

// WriteHeader remembers the first final status.
func (r *Recorder) WriteHeader(status int) {
	if r.Status == 0 && status >= 200 {
		r.Status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *Recorder) Write(p []byte) (int, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.Bytes += int64(n)
	return n, err
}

// ReadFrom lets net/http see the source itself: sendfile needs *os.File.
func (r *Recorder) ReadFrom(src io.Reader) (int64, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	n, err := io.Copy(r.ResponseWriter, src)
	r.Bytes += n
	return n, err
}

// Unwrap serves http.ResponseController.
func (r *Recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
