package proxy

import "errors"

// leftError is a blob that does not match its digest, of which an earlier fill or process
// had left bytes here: they may have been spoilt since, on our own medium, and so it is
// nothing to hold against the upstream. All of it is dropped, and what the next one finds
// out is the upstream's.
type leftError struct{ error }

func (e leftError) Error() string { return e.error.Error() + " and from what was kept of it before" }

func (e leftError) Unwrap() error { return e.error }

func isLeft(err error) bool {
	_, ok := errors.AsType[leftError](err)
	return ok
}
