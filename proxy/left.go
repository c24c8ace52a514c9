package proxy

import (
	"context"
	"errors"
)

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

// wrongRest drops what f has of a blob that was passed on from there, and did not match
// its digest; err is why, and what is to be told.
func (f *fill) wrongRest(err error) error {
	f.mu.Lock()
	verified := f.verified
	f.mu.Unlock()
	if verified { // meanwhile: what it has is right
		f.p.reject(f.up, f.d)
		return err
	}
	f.discard(context.WithoutCancel(f.p.life), err)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
