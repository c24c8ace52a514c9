package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// Error is what a handler returns when it knows what the client should be
// told. Lower floors return their own typed errors; the handler, which alone
// knows what was asked for, turns them into this.
type Error struct {
	Code       errcode.ErrorCode // one of the specification's codes
	Message    string            // what and which, in lower case
	Detail     any               // optional, shown to the client as it is
	Status     int               // overrides the code's own status when not 0
	RetryAfter time.Duration     // sent as Retry-After when not 0
	Challenge  string            // sent as WWW-Authenticate when not ""
	Err        error             // the cause: logged, never shown
}

// NewError makes an Error of a code and a formatted message.
func NewError(code errcode.ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	if why := e.Err.Error(); !strings.Contains(e.Message, why) { // else it is shown, too
		return e.Message + ": " + why
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// HTTPStatus is the status that WriteError sends for e.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	if s := e.Code.Descriptor().HTTPStatusCode; s != 0 {
		return s
	}
	return http.StatusInternalServerError
}

// AsError finds the Error in err's chain. Whatever has none is UNKNOWN, or
// UNAVAILABLE when the request's own time was up.
func AsError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Code: errcode.ErrorCodeUnavailable, Message: "the request was given up", Err: err}
	default:
		return &Error{Code: errcode.ErrorCodeUnknown, Message: "internal error", Err: err}
	}
}

// WriteError sends err as the specification's error body ("Error codes") and
// returns the status sent. It is the one place where errors become answers.
func WriteError(w http.ResponseWriter, r *http.Request, err error) int {
	e := AsError(err)
	status := e.HTTPStatus()
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, jerr := json.Marshal(map[string][]item{"errors": {{e.Code.String(), e.Message, e.Detail}}})
	if jerr != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN","message":"unprintable error detail"}]}`)
	}
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	for _, k := range []string{"Docker-Content-Digest", "Etag", "Content-Range", "Content-Encoding", "Cache-Control"} {
		if k != "Content-Range" || status != http.StatusRequestedRangeNotSatisfiable {
			h.Del(k)
		}
	}
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client left: nobody to tell
	}
	linger(w, r)
	return status
}
