package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func queryOf(key, value string) string { return url.Values{key: {value}}.Encode() }

// postUpload begins an upload, takes a whole blob, or mounts one (distribution
// specification, "Pushing blobs").
func (p *Proxy) postUpload(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.target(w, r, oci.ActionPush)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if mount := q.Get("mount"); mount != "" {
		d, err := oci.ParseDigest(mount)
		if err != nil {
			return err
		}
		mount := p.mount
		if !up.Hosted {
			mount = p.passMount
		}
		if ok, err := mount(r, up, repo, d, q.Get("from")); err != nil {
			return p.passError(fmt.Sprintf("mount %s in %s", d, repo), err)
		} else if ok {
			return created(w, r, "blobs", d)
		}
	}
	algorithm := digest.SHA256
	if a := q.Get("digest-algorithm"); a != "" {
		if algorithm = digest.Algorithm(a); algorithm != digest.SHA256 && algorithm != digest.SHA512 {
			return oci.NewError(errcode.ErrorCodeDigestInvalid, "unsupported digest algorithm %q: want sha256 or sha512", a)
		}
	}
	var d digest.Digest
	if s := q.Get("digest"); s != "" && q.Get("mount") == "" {
		if d, err = oci.ParseDigest(s); err != nil {
			return err
		}
		algorithm = d.Algorithm()
	}
	u, err := p.newUpload(r, repo, algorithm)
	if err != nil {
		return err
	}
	defer u.Release()
	push := &push{p: p, up: up, repo: repo, u: u, pusher: up.pusher()}
	if d != "" {
		return push.finish(w, r, d)
	}
	if err := u.Checkpoint(r.Context()); err != nil {
		return p.pushError("begin an upload to "+repo.String(), err)
	}
	return push.accepted(w, r, http.StatusAccepted)
}

// push is one request about an upload, which it has.
type push struct {
	p    *Proxy
	up   *Upstream
	repo oci.Repo
	u    *storage.Upload

	pusher Pusher        // nil: the blob stays here
	begun  *forward      // that the upstream has begun; nil: not known
	d      digest.Digest // what the blob will be; "" while that is not known
	want   int64         // how long the chunk says that it is; 0: it does not say
}

// open finds the upload that a request is about.
func (p *Proxy) openUpload(w http.ResponseWriter, r *http.Request) (*push, error) {
	up, repo, err := p.target(w, r, oci.ActionPush)
	if err != nil {
		return nil, err
	}
	u, err := p.claimUpload(r.Context(), repo, mux.Vars(r)["id"])
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, &oci.Error{Code: errcode.ErrorCodeBlobUploadUnknown, Err: err,
			Message: fmt.Sprintf("no such upload in %s: it is finished, cancelled or expired; begin anew", repo)}
	case errors.Is(err, storage.ErrBusy):
		return nil, &oci.Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusConflict, Err: err,
			Message: "another request is sending to this upload"}
	case err != nil:
		return nil, p.pushError("open an upload to "+repo.String(), err)
	}
	return &push{p: p, up: up, repo: repo, u: u, pusher: up.pusher()}, nil
}

// uploadError is pushError about an upload, which may be over or have lost its bytes.
func (p *Proxy) uploadError(what string, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeBlobUploadUnknown, Message: what + ": the upload is over, or its bytes are lost; begin anew", Err: err}
	}
	return p.pushError(what, err)
}

// getUpload tells where to go on ("Pushing a blob in chunks").
func (p *Proxy) getUpload(w http.ResponseWriter, r *http.Request) error {
	s, err := p.openUpload(w, r)
	if err != nil {
		return err
	}
	defer s.u.Release()
	return s.accepted(w, r, http.StatusNoContent)
}

// patchUpload takes a chunk, or as much of it as comes.
func (p *Proxy) patchUpload(w http.ResponseWriter, r *http.Request) error {
	s, err := p.openUpload(w, r)
	if err != nil {
		return err
	}
	defer s.u.Release()
	if err := s.inOrder(w, r); err != nil {
		return err
	}
	if err := s.receive(w, r, ""); err != nil {
		return err
	}
	if err := s.u.Checkpoint(context.WithoutCancel(r.Context())); err != nil {
		return p.uploadError("keep a chunk", err)
	}
	return s.accepted(w, r, http.StatusAccepted)
}

// putUpload takes the last chunk, if there is one left, and ends the upload.
func (p *Proxy) putUpload(w http.ResponseWriter, r *http.Request) error {
	s, err := p.openUpload(w, r)
	if err != nil {
		return err
	}
	defer s.u.Release()
	d, err := oci.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	if err := s.inOrder(w, r); err != nil {
		return err
	}
	return s.finish(w, r, d)
}

// deleteUpload cancels ("Cancel a blob upload").
func (p *Proxy) deleteUpload(w http.ResponseWriter, r *http.Request) error {
	s, err := p.openUpload(w, r)
	if err != nil {
		return err
	}
	defer s.u.Release()
	if err := s.u.Cancel(r.Context()); err != nil {
		return p.uploadError("cancel an upload", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// accepted tells where the upload is, and how far.
func (s *push) accepted(w http.ResponseWriter, r *http.Request, status int) error {
	s.where(w, r)
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

func (s *push) where(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Location", spelled(r, mux.Vars(r)["name"], "blobs", "uploads", s.u.ID()))
	h.Set("Docker-Upload-Uuid", s.u.ID())
	h.Set("Range", fmt.Sprintf("0-%d", max(0, s.u.Size()-1))) // there is no way to write that nothing came
}

var chunkRange = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// inOrder refuses a chunk that does not begin where the last one ended.
func (s *push) inOrder(w http.ResponseWriter, r *http.Request) error {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return nil
	}
	m := chunkRange.FindStringSubmatch(header)
	if m == nil {
		return &oci.Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest,
			Message: fmt.Sprintf("Content-Range %.100q is not of the form FIRST-LAST", header)}
	}
	first, _ := strconv.ParseInt(m[1], 10, 64)
	last, _ := strconv.ParseInt(m[2], 10, 64)
	if size := s.u.Size(); first != size {
		s.where(w, r)
		return oci.NewError(errcode.ErrorCodeRangeInvalid, "the chunk begins at byte %d, but the next byte of this upload is %d", first, size)
	}
	s.want = last - first + 1
	if n := r.ContentLength; last < first || n >= 0 && n != last-first+1 {
		return oci.NewError(errcode.ErrorCodeSizeInvalid, "Content-Range %s does not fit Content-Length %d", header, n)
	}
	return nil
}

// receive appends the request's body. What came of a broken one is kept, so that
// the client may go on behind it. d is what the blob will be, where that is known.
func (s *push) receive(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	ctx := r.Context()
	what := "push to " + s.repo.String()
	s.expect(d)
	leave, err := s.admitted(r)
	if err != nil {
		return err
	}
	defer leave()
	if n := r.ContentLength; n != 0 {
		err = s.withinQuota(ctx, max(n, 0))
		if err == nil && n > 0 {
			err = s.u.Reserve(ctx, s.u.Size()+n)
		}
	}
	if err != nil {
		return s.p.uploadError(what, err)
	}
	err = s.copy(w, r)
	if final(err) {
		return s.refused(ctx, what, err)
	}
	if short, ok := errors.AsType[sizeError](err); ok {
		return s.misfit(r, short)
	}
	var broken clientError
	if errors.As(err, &broken) {
		if !s.u.Filed() { // nobody could go on with it
			return &oci.Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest, Message: "the body of the request ended early: send it again", Err: err}
		}
		s.expect("") // it may go on as something else, or never: what is kept of it takes room
		if err := s.keepBroken(context.WithoutCancel(ctx)); err != nil {
			return s.p.uploadError(what, err)
		}
		if err := s.u.Checkpoint(context.WithoutCancel(ctx)); err != nil {
			return s.p.uploadError(what, err)
		}
		return &oci.Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest, Message: "the body of the request ended early", Err: err}
	}
	if err != nil {
		return s.p.uploadError(what, err)
	}
	return nil
}

// copy appends what the client sends, and gives it up when it stops sending. Its
// own faults are clientErrors.
func (s *push) copy(w http.ResponseWriter, r *http.Request) error {
	from := s.p.senders.begin(s.u.ID(), w)
	defer s.p.senders.end(s.u.ID(), from)
	buf := s.p.bufs.get()
	defer s.p.bufs.put(buf)
	tapAt := s.p.index.PushSize(s.repo)
	for got := int64(0); ; {
		n, rerr := from.read(r, buf)
		got += int64(n)
		if n > 0 {
			if _, err := s.u.Write(r.Context(), buf[:n]); err != nil {
				return err
			}
			if err := s.withinQuota(r.Context(), 0); err != nil {
				return err
			}
			s.tap(r.Context(), tapAt)
			if err := s.begun.refusal(); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF) && s.want > 0 && got != s.want:
			return sizeError{got, s.want}
		case errors.Is(rerr, io.EOF):
			return nil
		case rerr != nil:
			return clientError{rerr}
		}
	}
}

// finish takes the rest of the blob and makes it d.
func (s *push) finish(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	note(r).digest = d.String()
	if err := s.receive(w, r, d); err != nil {
		return err
	}
	if s.pusher != nil {
		return s.pass(w, r, d)
	}
	what := fmt.Sprintf("push %s to %s", d, s.repo)
	if err := s.matches(r, d, what); err != nil {
		return err
	}
	ctx := context.WithoutCancel(r.Context()) // all of it is here
	row := storage.ContentRow{Repo: s.repo, Digest: d, Size: s.u.Size(), Pushed: s.p.now().UTC()}
	err := s.u.Commit(ctx, d, storage.KindHosted, func(tx storage.Tx) error {
		if err := s.p.holdUpload(tx, s.up, row); err != nil {
			return err
		}
		return s.p.tell(tx, r, oci.Event{Kind: oci.EventPush, Repo: s.repo, Target: blobTarget(d, row.Size)})
	})
	if err != nil {
		return s.p.uploadError(what, err)
	}
	s.p.index.Whole(d)
	return created(w, r, "blobs", d)
}

// matches compares what came with d; an upload of other bytes is over.
func (s *push) matches(r *http.Request, d digest.Digest, what string) error {
	ctx := context.WithoutCancel(r.Context())
	err := s.u.Matches(ctx, d)
	if errors.Is(err, storage.ErrDigest) {
		err = errors.Join(err, s.u.Cancel(ctx))
	}
	if err != nil {
		return s.p.uploadError(what, err)
	}
	return nil
}

// created answers that d is there, and where.
func created(w http.ResponseWriter, r *http.Request, kind string, d digest.Digest) error {
	h := w.Header()
	h.Set("Location", spelled(r, mux.Vars(r)["name"], kind, d.String()))
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// tap has the upload indexed from the stream, once it is large enough. What it is,
// the indexer hears when all of it has come: what a client says before would keep
// the layer from being indexed from elsewhere, for as long as it sends.
func (s *push) tap(ctx context.Context, size int64) {
	if size < 0 || s.u.Watched() || s.u.Size() < size {
		return
	}
	rc, err := s.u.Follow(ctx)
	if err != nil {
		s.p.log.WarnContext(ctx, "upload is not indexed from its stream", "repo", s.repo, "err", err)
		s.u.OnMatch(func(digest.Digest) {})
		return
	}
	s.u.OnMatch(s.p.index.Push(s.repo, rc))
}
