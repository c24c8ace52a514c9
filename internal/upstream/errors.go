package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// ErrDigest is wrapped when bytes are not what their digest says.
var ErrDigest = errors.New("digest does not match")

// ErrOffline is wrapped when the operator wants an upstream not to be asked.
// Such an error IsUnavailable, too.
var ErrOffline = errors.New("it is offline by configuration")

// StatusError is an answer that refuses. Its texts come from the upstream and
// are for the log: of the body at most 8 KiB were read, and only the first
// error of the specification's form was understood.
type StatusError struct {
	Upstream   string
	Op         string        // what was asked: the op label of the metrics
	Status     int           // of HTTP
	Code       string        // the specification's; made from the status where the answer has none
	Message    string        // at most 256 bytes; "" where the answer has none
	RetryAfter time.Duration // 0 where the answer has none
	Digest     digest.Digest // what the first error's detail is about; "" where it names none

	elsewhere bool // the answer came from where a redirect led
	spent     bool // it says that nothing is left of its limit

	window time.Duration // until the limit begins anew, at most; 0 where it does not say
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("upstream %s answers %s with %d %s", e.Upstream, e.Op, e.Status, e.Code)
	if e.Message != "" {
		s += fmt.Sprintf(" (%q)", e.Message)
	}
	return s
}

// RangeError says that the blob has no byte of the range asked for.
type RangeError struct {
	Size int64        // of the whole blob; -1 where the upstream doesn't say
	Err  *StatusError // the 416; nil where the upstream doesn't do ranges
}

func (e *RangeError) Error() string {
	if e.Size < 0 {
		return "range lies outside the blob"
	}
	return fmt.Sprintf("range lies outside the blob's %d bytes", e.Size)
}

func (e *RangeError) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return e.Err
}

// UnreachableError says that no usable answer came: the connection failed, or
// nothing was heard for too long. Err is never io.EOF.
type UnreachableError struct {
	Upstream string
	Op       string
	Err      error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("upstream %s is unreachable for %s: %v", e.Upstream, e.Op, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// HeldError says that an upstream was not asked: it does not answer, it wanted a
// pause, or its budget is spent.
type HeldError struct {
	Upstream   string
	Throttled  bool          // it wants fewer requests, or we do
	RetryAfter time.Duration // when asking again may help
	Err        error         // what made it so; nil where that is not known
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("upstream %s is not asked for another %v: %v", e.Upstream, e.RetryAfter.Round(time.Millisecond), e.Err)
}

func (e *HeldError) Unwrap() error { return e.Err }

// RetryAfter is when asking again may help, as the upstream said or as is known
// here; 0 where neither is so. However long the upstream wants to be left alone,
// it is asked again after maxHold.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*HeldError](err); ok {
		return min(e.RetryAfter, maxHold)
	}
	if e, ok := errors.AsType[*StatusError](err); ok {
		return min(e.RetryAfter, maxHold)
	}
	return 0
}

// PolicyError says that an upstream asked for something that is never done,
// such as sending credentials to a stranger.
type PolicyError struct {
	Upstream string
	Reason   string // names hosts, never paths or queries, which may hold secrets
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("upstream %s: %s", e.Upstream, e.Reason)
}

// ProtocolError says that an answer is not one that the specification, or
// RFC 9110, allows.
type ProtocolError struct {
	Upstream string
	Op       string
	Reason   string
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("upstream %s answers %s wrongly: %s", e.Upstream, e.Op, e.Reason)
}

// IsNotFound reports that the upstream knows nothing of that name. A token
// service that can't be found says nothing about the name.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && !e.aboutAuth() && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// IsDenied reports that the configured credentials, or none, don't suffice. What
// a storage behind the upstream refuses is no matter of theirs.
func IsDenied(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && !e.elsewhere && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// IsThrottled reports that the upstream wants fewer requests. Such an error
// IsUnavailable, too.
func IsThrottled(err error) bool {
	if e, ok := errors.AsType[*HeldError](err); ok {
		return e.Throttled
	}
	e, ok := errors.AsType[*StatusError](err)
	return ok && e.Status == http.StatusTooManyRequests
}

// IsUnavailable reports that the upstream gave no usable answer, which says
// nothing about what was asked for: the network, a time-out, 429 and 5xx, an
// answer that makes no sense or that policy forbids to follow. A caller that
// left is not among them; one whose own deadline passed is.
func IsUnavailable(err error) bool {
	if is[*HeldError](err) || errors.Is(err, ErrOffline) {
		return true
	}
	if e, ok := errors.AsType[*StatusError](err); ok {
		switch {
		case e.Status >= 500, e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout:
			return true
		default:
			return e.aboutAuth() && !IsDenied(err) || e.expired()
		}
	}
	return is[*UnreachableError](err) || is[*PolicyError](err) || is[*ProtocolError](err) ||
		errors.Is(err, context.DeadlineExceeded)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// aboutAuth reports that not the question itself was answered but the one for
// the right to ask it.
func (e *StatusError) aboutAuth() bool { return e.Op == string(opPing) || e.Op == string(opToken) }
