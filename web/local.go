package web

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// named is the body of requests about one image.
type named struct {
	Name string `json:"name"`
}

func (s *Web) purge(w http.ResponseWriter, r *http.Request) error {
	var q PurgeRequest
	if err := receive(w, r, &q); err != nil {
		return err
	}
	out, err := Purge(r.Context(), s.opt.Store, q, s.opt.Immutable)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "purged", "name", out.Name, "digest", out.Digest, "bytes", out.Freed,
		"blobs", out.Blobs, "blocked", len(out.Blocked))
	return sendJSON(w, out)
}

func (s *Web) unblock(w http.ResponseWriter, r *http.Request) error {
	var q named
	if err := receive(w, r, &q); err != nil {
		return err
	}
	ds, err := Unblock(r.Context(), s.opt.Store, q.Name)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "unblocked", "name", q.Name, "digests", len(ds))
	return sendJSON(w, ds)
}

func (s *Web) blocks(w http.ResponseWriter, r *http.Request) error {
	list, err := Blocks(r.Context(), s.opt.Store)
	if err != nil {
		return err
	}
	return sendJSON(w, list)
}

func (s *Web) refresh(w http.ResponseWriter, r *http.Request) error {
	var q named
	if err := receive(w, r, &q); err != nil {
		return err
	}
	t, err := Refresh(r.Context(), s.opt.Store, q.Name)
	if err != nil {
		return operatorError(err)
	}
	return sendJSON(w, t)
}

func (s *Web) pin(w http.ResponseWriter, r *http.Request) error {
	var q named
	if err := receive(w, r, &q); err != nil {
		return err
	}
	p, err := PinImage(r.Context(), s.opt.Store, q.Name)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "pinned", "name", p.Reference, "digest", p.Digest, "bytes", p.Bytes)
	return sendJSON(w, p)
}

func (s *Web) unpin(w http.ResponseWriter, r *http.Request) error {
	var q named
	if err := receive(w, r, &q); err != nil {
		return err
	}
	p, err := Unpin(r.Context(), s.opt.Store, q.Name)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "unpinned", "name", p.Reference, "digest", p.Digest)
	return sendJSON(w, p)
}

func (s *Web) pins(w http.ResponseWriter, r *http.Request) error {
	list, err := Pins(r.Context(), s.opt.Store)
	if err != nil {
		return err
	}
	return sendJSON(w, list)
}

// notHere is a sentence that says by itself that something is not here:
// storage.ErrNotFound without its words.
type notHere struct{ error }

func (notHere) Is(target error) bool { return target == storage.ErrNotFound }

func isNotHere(format string, args ...any) error { return notHere{fmt.Errorf(format, args...)} }

// operatorError gives what can go wrong with an operator's command its status.
// The message is the error's own: it is for the owner of the store.
func operatorError(err error) error {
	if _, known := errors.AsType[*oci.Error](err); known {
		return err
	}
	e := &oci.Error{Message: err.Error(), Err: err}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		e.Code = errcode.ErrorCodeNameUnknown
		e.Message = strings.TrimSuffix(e.Message, ": "+storage.ErrNotFound.Error())
	case errors.Is(err, bundle.ErrBundle):
		e.Code = errcode.ErrorCodeDigestInvalid
	case errors.Is(err, errAmbiguous), errors.Is(err, errNoTag), errors.Is(err, errWaits):
		e.Code = errcode.ErrorCodeNameInvalid
	case errors.Is(err, storage.ErrPinned), errors.Is(err, storage.ErrImmutable), errors.Is(err, storage.ErrHosted), errors.Is(err, storage.ErrBusy), errors.Is(err, storage.ErrUnsure), errors.Is(err, errIncomplete):
		e.Code, e.Status = errcode.ErrorCodeDenied, http.StatusConflict
	default:
		return err
	}
	return e
}
