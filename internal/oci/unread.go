package oci

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// maxIdle and idleTime bound the body of a request that means nothing by it.
const (
	maxIdle  = 64 << 10 // bytes
	idleTime = 5 * time.Second
)

// BoundUnread bounds the time in which bodies come that next does not read, which
// net/http itself waits for without end before it sends the header of an answer.
// Those of GET, HEAD and DELETE mean nothing (RFC 9110, 9.3) and are read before
// next sees the request; what next leaves of another has a second to come.
func BoundUnread(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 || r.ProtoMajor > 1 {
			next.ServeHTTP(w, r)
			return
		}
		rc := http.NewResponseController(w)
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodDelete:
			_ = rc.SetReadDeadline(time.Now().Add(idleTime)) // a test's connection may have none
			if _, err := io.CopyN(io.Discard, r.Body, maxIdle+1); !errors.Is(err, io.EOF) {
				w.Header().Set("Connection", "close")
				WriteError(w, r, &Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusBadRequest,
					Message: "a " + r.Method + " has no body: send the request without one", Err: err})
				return
			}
			_ = rc.SetReadDeadline(time.Time{})
			next.ServeHTTP(w, r)
		default:
			next.ServeHTTP(&unreadWriter{ResponseWriter: w, rc: rc}, r)
			// It ends with this request: net/http sets another for the next one.
			_ = rc.SetReadDeadline(time.Now().Add(unreadTime))
		}
	})
}

// headerLeaves is more than what net/http holds back before it sends a header.
const headerLeaves = 64 << 10 // bytes

// unreadWriter bounds what net/http reads of a body before it sends the header,
// where a handler has it sent before its own end.
type unreadWriter struct {
	http.ResponseWriter
	rc   *http.ResponseController
	sent int64
}

func (u *unreadWriter) Write(p []byte) (n int, err error) {
	if u.sent < headerLeaves {
		defer u.bound()()
	}
	n, err = u.ResponseWriter.Write(p)
	u.sent += int64(n)
	return n, err
}

// FlushError serves http.ResponseController.
func (u *unreadWriter) FlushError() error {
	if u.sent < headerLeaves {
		defer u.bound()()
		u.sent = headerLeaves
	}
	return u.rc.Flush()
}

// Unwrap serves http.ResponseController.
func (u *unreadWriter) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// bound bounds reads until it is taken back: what a handler reads has its own time.
func (u *unreadWriter) bound() (takeBack func()) {
	_ = u.rc.SetReadDeadline(time.Now().Add(unreadTime))
	return func() { _ = u.rc.SetReadDeadline(time.Time{}) }
}
