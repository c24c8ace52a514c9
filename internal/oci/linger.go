package oci

import (
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// maxLinger and lingerTime bound what is read of a request's body once it was
	// refused.
	maxLinger  = 16 << 20 // bytes
	lingerTime = 5 * time.Second
	// askedTime is lingerTime where the client asked whether it is to send at all:
	// as a rule it does not.
	askedTime = 500 * time.Millisecond
	// unreadTime is how long net/http may read what is left of a body before it
	// sends the answer's header.
	unreadTime = time.Second
)

// linger sends off the answer to a request whose body has not all been read, and
// reads on for a while: a connection that is closed while its client is sending is
// reset, and most clients then never see why (RFC 9112, 9.6). net/http does the like
// for small bodies only, and not for what came with "Connection: close".
func linger(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor > 1 || r.ContentLength == 0 || r.Body == nil {
		return // HTTP/2 ends the one stream, and the rest arrives
	}
	most := lingerTime
	if r.Header.Get("Expect") != "" {
		most = askedTime
	}
	rc := http.NewResponseController(w)
	// Of a small body, net/http reads the rest before the header leaves.
	if rc.SetReadDeadline(time.Now().Add(min(most, unreadTime))) != nil || rc.Flush() != nil ||
		rc.SetReadDeadline(time.Now().Add(most)) != nil {
		return // nothing would end the wait
	}
	if _, err := io.CopyN(io.Discard, r.Body, maxLinger); errors.Is(err, io.EOF) {
		_ = rc.SetReadDeadline(time.Time{}) // it could be set a moment ago
	}
}
