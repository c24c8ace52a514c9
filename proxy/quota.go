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

// used is what of up's quota is taken, as tx has it, open being bytes of uploads.
func used(tx storage.Tx, up *Upstream, open int64) (int64, error) {
	n, err := tx.ContentBytes(up.Name)
	return n + open, err
}

// holdContent says, within a transaction, that a repository has something, if
// that may be so. open is how many bytes of uploads count that are not this.
func holdContent(tx storage.Tx, up *Upstream, row storage.ContentRow, open int64) error {
	if err := storage.NotBlocked(tx, row.Digest); err != nil {
		return err
	}
	before, err := used(tx, up, open)
	if err != nil {
		return err
	}
	if err := tx.PutContent(row); err != nil {
		return err
	}
	after, err := used(tx, up, open)
	if q := up.Hosting.Quota; err == nil && q > 0 && after > q && after > before {
		err = quotaError(up, before-open, open, row.Size)
	}
	return err
}

// reclaim has what the manifest d needs count again, where it was left to be
// collected.
func reclaim(tx storage.Tx, up *Upstream, repo oci.Repo, d digest.Digest, open int64) error {
	rows, err := storage.Reclaim(tx, repo, d)
	for _, row := range rows {
		if err == nil {
			err = holdContent(tx, up, row, open)
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
	if quota <= 0 {
		return nil
	}
	for {
		var stored, open int64
		if s.spared { // the one that counts for it may have been given up
			if err := s.spare(ctx); err != nil {
				return err
			}
		}
		if !s.spared {
			open = s.p.store.OpenBytes(s.up.Name) - s.u.Counted()
			err := s.p.store.View(ctx, func(tx storage.Tx) (err error) {
				stored, err = used(tx, s.up, 0)
				return err
			})
			if err != nil {
				return err
			}
		}
		size := s.u.Size() + more
		if size <= quota-stored-open {
			return nil
		}
		if open > 0 && size <= quota-stored { // others may have left theirs
			if ended, err := s.p.store.EndIdle(ctx, s.up.Name, idleUpload); ended || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if !s.spared { // the same blob may have come from another client meanwhile
			if err := s.spare(ctx); err != nil {
				return err
			}
			if s.spared {
				continue
			}
		}
		return errors.Join(quotaError(s.up, stored, open, size), s.u.Cancel(ctx))
	}
}

// idleUpload is after how long an upload that nobody goes on with makes room for
// one that needs it.
const idleUpload = 5 * time.Minute

// spare has the upload not count where the namespace has its blob already, or
// another upload is to become the same: it takes no further room.
func (s *push) spare(ctx context.Context) error {
	d := s.d
	if d == "" || s.up.Hosting.Quota <= 0 {
		return nil
	}
	err := s.p.store.View(ctx, func(tx storage.Tx) error {
		s.spared = false
		return tx.ContentOf(d, func(repo oci.Repo) error {
			if s.spared || repo.Upstream != s.up.Name {
				return nil
			}
			row, err := tx.Content(repo, d)
			s.spared = err == nil && row.Released.IsZero()
			return err
		})
	})
	if s.spared {
		s.u.Spare()
	} else if err == nil {
		s.spared = s.u.Expect(d)
	}
	return err
}

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
