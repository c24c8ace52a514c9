package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// edge gives a fault that is not about one missing thing the code and status
// that a client can act on; what names the thing. The upstream's own words are
// logged, never forwarded: but for what it has against a push, see passError.
func edge(what string, err error) error {
	if known, ok := errors.AsType[*oci.Error](err); ok {
		return known
	}
	retryAfter := upstream.RetryAfter(err)
	refusal, refused := errors.AsType[*upstream.StatusError](err)
	_, outside := errors.AsType[*upstream.RangeError](err)
	switch {
	case errors.Is(err, storage.ErrBlocked):
		return &oci.Error{Code: errcode.ErrorCodeDenied, Message: what + ": blocked by the operator", Err: err}
	case errors.Is(err, upstream.ErrOffline):
		return offlineError(what, errcode.ErrorCodeUnavailable, http.StatusNotFound, err)
	case errors.Is(err, upstream.ErrBudget):
		return &oci.Error{Code: errcode.ErrorCodeTooManyRequests, Message: what + ": the requests a minute that this proxy sends its upstream at most are spent (requests_per_minute)", RetryAfter: max(retryAfter, time.Second), Err: err}
	case upstream.IsThrottled(err):
		return &oci.Error{Code: errcode.ErrorCodeTooManyRequests, Message: what + ": the upstream asks to slow down", RetryAfter: max(retryAfter, time.Second), Err: err}
	case upstream.IsDenied(err):
		return &oci.Error{Code: errcode.ErrorCodeDenied, Message: what + ": the upstream refuses this proxy access: check the repository's name and the upstream's credentials", Err: err}
	case isLeft(err):
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusBadGateway, Message: what + ": what was kept of it from before, or what the upstream sent, does not match the digest; ask again", RetryAfter: time.Second, Err: err}
	case errors.Is(err, upstream.ErrDigest), errors.Is(err, storage.ErrDigest):
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusBadGateway, Message: what + ": the upstream sent bytes that do not match the digest", Err: err}
	case upstream.IsUnavailable(err):
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Message: what + ": the upstream is not available", RetryAfter: max(retryAfter, time.Second), Err: err}
	case outside, refused && refusal.Status == http.StatusRequestedRangeNotSatisfiable:
		return &oci.Error{Code: errcode.ErrorCodeRangeInvalid, Message: what + ": no byte of the range is in it", Err: err}
	case refused: // asking again would not help
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusBadGateway, Message: fmt.Sprintf("%s: the upstream refuses the request with status %d", what, refusal.Status), Err: err}
	case errors.Is(err, errStopped), errors.Is(err, context.Canceled):
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Message: what + ": given up; ask again", RetryAfter: time.Second, Err: err}
	default:
		return &oci.Error{Code: errcode.ErrorCodeUnknown, Message: what + ": internal error", Err: err}
	}
}
