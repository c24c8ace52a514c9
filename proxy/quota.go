package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// A namespace's quota covers what its repositories have, each digest once, and
// the bytes of uploads that are under way: those count as they arrive. What an
// upstream's is compared with are those alone.

// quota is what the upload is counted for, in bytes; 0: no limit.
func (s *push) quota() int64 {
	if s.pusher != nil {
		return s.p.opt.PassingBytes
	}
	return s.up.Hosting.Quota
}

// holdContent says, within an update, that a repository has something, if that
// may be so.
func (p *Proxy) holdContent(tx storage.Tx, up *Upstream, row storage.ContentRow) error {
	return p.hold(tx, up, row, true)
}

// holdUpload is holdContent of what has come by an upload. Its bytes were judged as
// they came, beside all other uploads, and take no more room than before: others
// that are about to be refused do not stop it.
func (p *Proxy) holdUpload(tx storage.Tx, up *Upstream, row storage.ContentRow) error {
	return p.hold(tx, up, row, false)
}

func (p *Proxy) hold(tx storage.Tx, up *Upstream, row storage.ContentRow, beside bool) error {
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
	var open int64
	if beside {
		open, err = p.store.OpenCount(up.Name).Beside(tx, up.Name)
	}
	if err == nil && after+open > q {
		err = refuse(tx, up, account{stored: before, open: open, own: row.Size})
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

// account is what a namespace's quota is compared with, in bytes.
type account struct {
	stored int64 // its content
	open   int64 // what uploads take beside it
	own    int64 // what somebody would take beside both
}

func (a account) fits(quota int64) bool { return a.own == 0 || a.own <= quota-a.stored-a.open }

// alone is fits once no other uploads are under way.
func (a account) alone(quota int64) bool { return a.own <= quota-a.stored }

const (
	// openWait is how long the upload that began first waits for others, which take
	// the room that it needs, to be refused.
	openWait = 5 * time.Second
	openLook = 20 * time.Millisecond
)

// withinQuota refuses more bytes than there is room for; more are to come, and
// all others of the upload are counted. Where there may be room for them later, the
// upload is again where it was when the request began, for the client to send the
// same once more. Else it is over: what it takes is room, too.
func (s *push) withinQuota(ctx context.Context, more int64) error {
	refusal, err := s.judge(ctx, more)
	if refusal == nil || err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if refusal.Code == errcode.ErrorCodeTooManyRequests && s.u.Filed() {
		err := s.u.Refuse(ctx)
		s.expect("") // until somebody goes on with it
		a := account{}
		if err == nil {
			a, err = s.account(ctx, 0)
		}
		if err == nil && a.fits(s.quota()) {
			return refusal
		}
	}
	return errors.Join(refusal, s.u.Cancel(ctx))
}

// judge gives a refusal where there is no room for more bytes; it makes some where
// it can. The oldest of several uploads that take each other's room has it: it waits
// for the others to be refused, and reads nothing from its client meanwhile.
func (s *push) judge(ctx context.Context, more int64) (*oci.Error, error) {
	quota := s.quota()
	var until time.Time
	for quota > 0 {
		a, err := s.account(ctx, more)
		if err != nil || a.fits(quota) {
			return nil, err
		}
		ended, err := s.makeRoom(ctx, a)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		switch {
		case ended:
			continue
		case until.IsZero():
			until = now.Add(openWait)
		}
		if now.After(until) || !a.alone(quota) || !s.u.GoesFirst() {
			return s.refusal(ctx, a, more)
		}
		t := time.NewTimer(openLook)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		}
	}
	return nil, nil
}

// makeRoom ends an upload that nobody goes on with, where that is of use.
func (s *push) makeRoom(ctx context.Context, a account) (ended bool, err error) {
	if !a.alone(s.quota()) {
		return false, nil
	}
	ended, err = s.p.store.EndIdle(ctx, s.up.Name, idleUpload)
	if err == nil && !ended {
		ended, err = s.u.EndYounger(ctx)
	}
	return ended, err
}

// keepBroken ends the upload, of which no more comes now, where there is no room for
// what has come.
func (s *push) keepBroken(ctx context.Context) error {
	for quota := s.quota(); quota > 0; {
		a, err := s.account(ctx, 0)
		if err != nil || a.fits(quota) {
			return err
		}
		ended, err := s.makeRoom(ctx, a)
		if err == nil && ended {
			continue
		}
		var refusal *oci.Error
		if err == nil {
			refusal, err = s.refusal(ctx, a, 0)
		}
		if err != nil {
			return err
		}
		return errors.Join(refusal, s.u.Cancel(ctx))
	}
	return nil
}

// account tells what the namespace's content takes, what other uploads take beside
// it, and what this one takes beside both once more bytes have come: nothing, where
// it repeats what the namespace has, or less than has come of another one that is
// to become the same.
func (s *push) account(ctx context.Context, more int64) (a account, err error) {
	a.own = s.u.Size() + more
	if ahead := s.u.Ahead(); ahead > 0 && ahead >= a.own {
		return account{}, nil
	}
	count := s.p.store.OpenCount(s.up.Name)
	if s.d == "" {
		count.Unknown -= s.u.Size()
	} else {
		delete(count.Known, s.d)
	}
	if s.pusher != nil { // what is whole there is cached, and goes when it must
		a.open = count.Bytes()
		return a, nil
	}
	err = s.p.store.View(ctx, func(tx storage.Tx) error {
		has, err := int64(0), error(nil)
		if s.d != "" {
			has, err = storage.CountedSize(tx, s.up.Name, s.d)
		}
		if err == nil {
			a.stored, err = tx.ContentBytes(s.up.Name)
		}
		if err == nil {
			a.open, err = count.Beside(tx, s.up.Name)
		}
		a.own = max(0, s.u.Size()+more-has)
		return err
	})
	return a, err
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
	if errors.Is(err, storage.ErrTooMany) { // its client may have begun anew instead of going on
		ended, eerr := p.store.EndRefused(r.Context(), who)
		if eerr != nil {
			return nil, p.pushError("begin an upload to "+repo.String(), eerr)
		}
		if ended {
			u, err = p.store.NewUploadBy(r.Context(), who, p.opt.MaxUploads, repo, algorithm)
		}
	}
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
