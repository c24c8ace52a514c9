package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// Pusher is what the proxy asks of an upstream that takes pushes;
// *upstream.Client is one.
type Pusher interface {
	PushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error
	MountBlob(ctx context.Context, repo, from string, d digest.Digest) (bool, error)
	PushManifest(ctx context.Context, repo string, ref oci.Reference, mediaType string, body []byte) (subject string, err error)
	DeleteManifest(ctx context.Context, repo string, ref oci.Reference) error
}

// forward sends an upload on to its upstream while it comes.
type forward struct {
	begun chan struct{} // closed when the upstream has begun an upload, too
	once  sync.Once     // closes begun
	done  chan struct{} // closed when err is set
	err   error

	mu sync.Mutex
	d  digest.Digest
}

// forwards are those under way, by upload.
type forwards struct {
	mu sync.Mutex
	m  map[string]*forward
}

// forwarding gives the upload's forward, and begins one where none is alive: the
// file has what came before.
func (s *push) forwarding() *forward {
	p, id := s.p, s.u.ID()
	p.forwards.mu.Lock()
	defer p.forwards.mu.Unlock()
	if f := p.forwards.m[id]; f != nil {
		return f
	}
	f := &forward{begun: make(chan struct{}), done: make(chan struct{})}
	if p.forwards.m == nil {
		p.forwards.m = map[string]*forward{}
	}
	p.forwards.m[id] = f
	pusher, repo, u := s.pusher, s.repo, s.u
	if !p.work.start(func() {
		open := func() (io.ReadCloser, error) {
			rc, err := u.Follow(p.life)
			if err != nil {
				return nil, err
			}
			f.once.Do(func() { close(f.begun) })
			return newLiving(p.life, rc), nil
		}
		f.err = pusher.PushBlob(p.life, repo.Name, open, f.digest)
		p.forwards.end(id, f)
	}) {
		f.err = errShutdown
		delete(p.forwards.m, id)
		close(f.done)
	}
	return f
}

// of gives the forward of an upload, nil where none is alive.
func (fs *forwards) of(id string) *forward {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.m[id]
}

// refusal is the upstream's no to what was sent so far; nil while there is none.
func (f *forward) refusal() error {
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
		if final(f.err) {
			return f.err
		}
	default:
	}
	return nil
}

// end lets go of a forward: of an upload that is over, or that stood still for
// too long. Who comes back to it begins anew.
func (fs *forwards) end(id string, f *forward) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.m[id] == f {
		delete(fs.m, id)
	}
	close(f.done)
}

// living is a reader that is closed when ctx ends, at the latest.
type living struct {
	io.ReadCloser
	stop func() bool
}

func newLiving(ctx context.Context, rc io.ReadCloser) *living {
	return &living{rc, context.AfterFunc(ctx, func() { _ = rc.Close() })} // only read from
}

func (l *living) Close() error {
	l.stop()
	return l.ReadCloser.Close()
}

func (f *forward) digest() digest.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.d
}

// is tells what is being forwarded, before the upload says that it is whole.
func (f *forward) is(d digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.d = d
}

// pass waits until the upstream has the blob, and keeps it here as what was
// pulled from there.
func (s *push) pass(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	what := fmt.Sprintf("push %s to %s", d, s.repo)
	ctx := context.WithoutCancel(r.Context())
	if err := s.begun.refusal(); err != nil { // to send it once more would not help
		return s.refused(ctx, what, err)
	}
	f := s.forwarding()
	f.is(d)
	if err := s.matches(r, d, what); err != nil {
		return err
	}
	err := s.await(r, f)
	if err != nil && (!refusal(err) || lostThere(err)) { // it may have been given up while the client paused
		f = s.forwarding()
		f.is(d)
		err = s.await(r, f)
	}
	if final(err) {
		return s.refused(ctx, what, err)
	}
	if err != nil {
		if r.Context().Err() == nil {
			s.u.GiveWay() // its client hears of a failure, and begins anew, most likely
		}
		return s.p.passError(what, err)
	}
	size := s.u.Size()
	err = s.u.Commit(ctx, d, storage.KindBlob, func(tx storage.Tx) error {
		if err := tx.PutRight(s.repo, d); err != nil {
			return err
		}
		return s.p.tell(tx, r, oci.Event{Kind: oci.EventPush, Repo: s.repo, Target: blobTarget(d, size)})
	})
	if err != nil {
		return s.p.pushError(what, err)
	}
	s.p.index.Whole(d)
	return created(w, r, "blobs", d)
}

// refused ends an upload that the upstream refuses: nobody can go on with it.
func (s *push) refused(ctx context.Context, what string, err error) error {
	if cerr := s.u.Cancel(ctx); cerr != nil {
		return s.p.uploadError(what, fmt.Errorf("cancel what %s refuses: %w", s.repo.Upstream, cerr))
	}
	return s.p.passError(what, err)
}

func (s *push) await(r *http.Request, f *forward) error {
	select {
	case <-f.done:
		return f.err
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
}

// refusal reports that err is the upstream's own word, which another try would
// not change.
func refusal(err error) bool {
	_, ok := errors.AsType[*upstream.StatusError](err)
	return ok
}

// final reports that err is the upstream's no to what was sent.
func final(err error) bool {
	e, ok := errors.AsType[*upstream.StatusError](err)
	return ok && e.Status/100 == 4 && e.Status != http.StatusRequestTimeout && !upstream.IsThrottled(err) && !lostThere(err)
}

// lostThere reports that the upstream does not know its own upload any more, or not
// what came of it: the client's is another one, all of which is here.
func lostThere(err error) bool {
	e, ok := errors.AsType[*upstream.StatusError](err)
	return ok && (e.Status == http.StatusRequestedRangeNotSatisfiable ||
		e.Status == http.StatusNotFound && strings.EqualFold(e.Code, errcode.ErrorCodeBlobUploadUnknown.Descriptor().Value))
}

// passMount asks the upstream to mount, where both repositories are its own.
func (p *Proxy) passMount(r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest, from string) (bool, error) {
	if from == "" {
		return false, nil
	}
	source, ok := p.seesNamed(r, from)
	if !ok || source.Upstream != repo.Upstream {
		return false, nil // the client sends it, then
	}
	ok, err := up.Registry.(Pusher).MountBlob(r.Context(), repo.Name, source.Name, d)
	if ok {
		p.grant(up, repo, d)
		err = p.tellMounted(r, repo, source, d)
	}
	return ok, err
}

// passManifest has the upstream take a manifest, and keeps it here as what was
// pulled from there.
func (p *Proxy) passManifest(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, m *pushed) error {
	what := fmt.Sprintf("push manifest %s to %s", m.ref, repo)
	if len(m.tags) > 0 && m.ref.Digest != "" {
		return oci.NewError(errcode.ErrorCodeUnsupported, "%s: upstream %s is not sent tags as parameters", what, up.Name)
	}
	mediaType := m.row.Manifest.MediaType
	if err := p.sendMade(r, up, repo, m, false); err != nil {
		return p.passError(what, err)
	}
	subject, err := up.Registry.(Pusher).PushManifest(r.Context(), repo.Name, m.ref, mediaType, m.body)
	if err != nil {
		return p.passError(what, err)
	}
	for _, tag := range m.tags {
		p.absent.drop(absentKey(repo, tag))
	}
	got := &upstream.Manifest{Body: m.body}
	got.Descriptor.MediaType, got.Descriptor.Digest, got.Descriptor.Size = mediaType, m.row.Digest, m.row.Size
	row, err := manifestRow(repo, got)
	if err == nil {
		err = p.storeManifest(context.WithoutCancel(r.Context()), up, repo, m.ref, got, row)
	}
	if err == nil {
		err = p.index.Manifest(r.Context(), repo, row)
	}
	if p.opt.Events.Wants(oci.EventPush) {
		tell := func(tx storage.Tx) error { return p.tellPushed(tx, r, repo, m) }
		err = errors.Join(err, p.store.Update(context.WithoutCancel(r.Context()), tell))
	}
	if err != nil { // the upstream has it: it comes back with the next pull
		p.log.ErrorContext(r.Context(), "pushed manifest is not kept", "repo", repo, "digest", m.row.Digest, "err", err)
	}
	p.refersAnew(r, repo, m.ref, m.subject())
	p.awaitIndex(r, repo, m.row.Digest)
	if subject != "" {
		w.Header().Set("OCI-Subject", subject)
	}
	return created(w, r, "manifests", m.row.Digest)
}

// passError tells the client what the upstream has against its push: codes of
// the specification, in words of our own, and what it says itself. A no that lasts
// stays one: a client would send it all again after a 502, and not show why.
func (p *Proxy) passError(what string, err error) error {
	e, ok := errors.AsType[*upstream.StatusError](err)
	if ok && e.Status == http.StatusForbidden {
		return &oci.Error{Code: errcode.ErrorCodeDenied, Err: err,
			Message: what + ": the upstream denies it: the credentials that it was asked with may not push there, or a limit of its own is reached" + said(e)}
	}
	if lostThere(err) {
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusBadGateway, Err: err,
			Message: what + ": the upstream lost the upload: push it once more"}
	}
	if !ok || e.Status >= http.StatusInternalServerError || upstream.IsThrottled(err) || upstream.IsDenied(err) {
		return p.pushError(what, err)
	}
	for _, code := range []errcode.ErrorCode{
		errcode.ErrorCodeManifestBlobUnknown, errcode.ErrorCodeManifestInvalid, errcode.ErrorCodeDigestInvalid,
		errcode.ErrorCodeTagInvalid, errcode.ErrorCodeNameUnknown, errcode.ErrorCodeSizeInvalid, errcode.ErrorCodeUnsupported,
	} {
		if strings.EqualFold(code.Descriptor().Value, e.Code) {
			out := &oci.Error{Code: code, Message: what + ": the upstream refuses it", Err: err}
			if e.Digest != "" {
				out.Message, out.Detail = out.Message+", for the sake of "+e.Digest.String(), map[string]string{"digest": e.Digest.String()}
			}
			out.Message += said(e)
			return out
		}
	}
	switch {
	case e.Status == http.StatusRequestEntityTooLarge:
		return &oci.Error{Code: errcode.ErrorCodeSizeInvalid, Status: e.Status, Err: err,
			Message: what + ": the upstream, or a server in front of it, takes nothing of this size" + said(e)}
	case e.Status == http.StatusNotFound || !final(err):
		return p.pushError(what, err)
	}
	return &oci.Error{Code: errcode.ErrorCodeDenied, Status: e.Status, Err: err, Message: fmt.Sprintf("%s: the upstream refuses it with %d%s", what, e.Status, said(e))}
}

// said quotes what an upstream says about its no.
func said(e *upstream.StatusError) string {
	if e.Message == "" {
		return ""
	}
	return fmt.Sprintf(": it says %q", e.Message)
}
