package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// A namespace's quota covers what its repositories have, each digest once, and
// the bytes of uploads that are under way: those count as they arrive.

// holdContent says, within an update, that a repository has something, if that
// may be so.
func (p *Proxy) holdContent(tx storage.Tx, up *Upstream, row storage.ContentRow) error {
	if err := storage.NotBlocked(tx, row.Digest); err != nil {
		return err
	}
	before, err := tx.ContentBytes(up.Name)
	if err != nil {
		return err
	}
	if err := tx.PutContent(row); err != nil {
		return err
	}
	after, err := tx.ContentBytes(up.Name)
	q := up.Hosting.Quota
	if err != nil || q <= 0 || after <= before {
		return err
	}
	open, err := p.store.OpenCount(up.Name).Beside(tx, up.Name)
	if err == nil && after+open > q {
		err = quotaError(up, before, open, row.Size)
	}
	return err
}

// reclaim has what the manifest d needs count again, where it was left to be
// collected.
func (p *Proxy) reclaim(tx storage.Tx, up *Upstream, repo oci.Repo, d digest.Digest) error {
	rows, err := storage.Reclaim(tx, repo, d)
	for _, row := range rows {
		if err == nil {
			err = p.holdContent(tx, up, row)
		}
	}
	return err
}

// openPause is when a client may try again for whom only uploads that are under
// way left no room.
const openPause = 10 * time.Second

// quotaError refuses size bytes more than stored and open, which are those of
// uploads. Where it is only these that take the room, it may be there soon.
func quotaError(up *Upstream, stored, open, size int64) error {
	bytes := func(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
	e := oci.NewError(errcode.ErrorCodeDenied, "%s more would exceed the quota of %s, %s: its images take %s, uploads that are under way %s; delete images there, by digest, or raise hosted.%s.quota",
		bytes(size), up.Name, bytes(up.Hosting.Quota), bytes(stored), bytes(open), up.Name)
	if size <= up.Hosting.Quota-stored {
		e.Code, e.RetryAfter = errcode.ErrorCodeTooManyRequests, openPause
	}
	return e
}

// withinQuota refuses more bytes than there is room for; more are to come, and
// all others of the upload are counted. An upload that is refused is over: what
// it takes is room, too.
func (s *push) withinQuota(ctx context.Context, more int64) error {
	quota := s.up.Hosting.Quota
	for quota > 0 {
		stored, open, own, err := s.account(ctx, more)
		if err != nil {
			return err
		}
		if own == 0 || own <= quota-stored-open {
			return nil
		}
		if open > 0 && own <= quota-stored { // others may have left theirs
			ended, err := s.p.store.EndIdle(ctx, s.up.Name, idleUpload)
			if err != nil {
				return err
			}
			if ended {
				continue
			}
		}
		return errors.Join(quotaError(s.up, stored, open, own), s.u.Cancel(ctx))
	}
	return nil
}

// account tells what the namespace's content takes, what other uploads take beside
// it, and what this one takes beside both once more bytes have come: nothing, where
// it repeats what the namespace has, or less than has come of another one that is
// to become the same.
func (s *push) account(ctx context.Context, more int64) (stored, open, own int64, err error) {
	own = s.u.Size() + more
	if s.u.Ahead() >= own {
		return 0, 0, 0, nil
	}
	count := s.p.store.OpenCount(s.up.Name)
	if s.d == "" {
		count.Unknown -= s.u.Size()
	} else {
		delete(count.Known, s.d)
	}
	err = s.p.store.View(ctx, func(tx storage.Tx) error {
		has, err := int64(0), error(nil)
		if s.d != "" {
			has, err = storage.CountedSize(tx, s.up.Name, s.d)
		}
		if err == nil {
			stored, err = tx.ContentBytes(s.up.Name)
		}
		if err == nil {
			open, err = count.Beside(tx, s.up.Name)
		}
		own = max(0, s.u.Size()+more-has)
		return err
	})
	return stored, open, own, err
}

// expect says what the upload is to become, as far as this request knows. What it
// was counted with before counts by itself again when the request is over.
func (s *push) expect(d digest.Digest) {
	s.d = d
	s.u.Expect(d)
}

// idleUpload is after how long an upload that nobody goes on with makes room for
// one that needs it.
const idleUpload = 5 * time.Minute

// tooManyPause is when a client may try again that has too many uploads open.
const tooManyPause = 10 * time.Second

// newUpload begins an upload, if its caller has not too many already.
func (p *Proxy) newUpload(r *http.Request, repo oci.Repo, algorithm digest.Algorithm) (*storage.Upload, error) {
	who := p.caller(r)
	u, err := p.store.NewUploadBy(r.Context(), who, p.opt.MaxUploads, repo, algorithm)
	switch {
	case errors.Is(err, storage.ErrTooMany):
		return nil, &oci.Error{Code: errcode.ErrorCodeTooManyRequests, Err: err, RetryAfter: tooManyPause, Message: fmt.Sprintf(
			"%s has %d uploads open, as many as one caller may (uploads.max_open): end or cancel some; those that nobody goes on with expire", who, p.opt.MaxUploads)}
	case err != nil:
		return nil, p.pushError("begin an upload to "+repo.String(), err)
	}
	return u, nil
}

// caller says whose request r is: a user, or else an address.
func (p *Proxy) caller(r *http.Request) string {
	if d, ok := p.opt.Access.(Door); ok {
		if who := d.Who(r); who != "" {
			return "user " + who
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}
