package access

import (
	"errors"
	"fmt"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// HeldError is returned by what asks an upstream about a caller where it must not be
// asked now: it was asked too much.
type HeldError struct {
	After time.Duration // until it may be; 0: not known
	Why   string        // in words that may be told to the caller
	Err   error
}

func (e *HeldError) Error() string { return e.Why + ": " + e.Err.Error() }

// Unwrap gives what the upstream's client said.
func (e *HeldError) Unwrap() error { return e.Err }

// awayError tells a caller that an upstream could not be asked about it.
func awayError(repo oci.Repo, err error) error {
	e := &oci.Error{
		Code: errcode.ErrorCodeUnavailable, RetryAfter: time.Second, Err: err,
		Message: fmt.Sprintf("%s cannot be asked whether this caller may pull %s", repo.Upstream, repo),
	}
	if held, ok := errors.AsType[*HeldError](err); ok {
		e.Code, e.RetryAfter = errcode.ErrorCodeTooManyRequests, max(held.After, time.Second)
		e.Message += ": " + held.Why
	}
	return e
}
