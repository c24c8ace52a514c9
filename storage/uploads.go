package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// uploadPrefix begins the keys of uploads' partial files.
const uploadPrefix = "upload-"

// Upload is a blob that a client pushes, from its first byte to its last, in as
// many requests as it likes, over restarts too. Its bytes are unverified until
// Commit. One caller at a time has it, and releases it; any number may Follow.
type Upload struct {
	s     *Store
	id    string
	repo  oci.Repo
	by    string
	claim chan struct{} // cap 1; whoever's token is in it has the upload

	started time.Time

	// For who has the upload.
	row    UploadRow
	filed  bool      // row is written
	tried  bool      // it may be: what failed may have been stored all the same
	synced int64     // so many bytes are durable
	sum    hash.Hash // of the first size bytes; nil where it is to be made from the file
	room   allotment
	held   *uploadFile // whose user it is; nil where it has not needed it yet
	match  func(digest.Digest)

	// Guarded by uploads.mu.
	counted  int64         // so many of its bytes are known to it
	expects  digest.Digest // "" where it is not known
	refused  bool          // see Refuse; nothing has come since
	givesWay bool          // see GiveWay; nothing has come since

	mu    sync.Mutex
	file  *uploadFile // nil while nobody needs it; opened by who has the upload alone
	size  int64       // written and hashed
	state uploadState
	news  chan struct{} // closed when any of these changes
}

type uploadState int

const (
	uploadOpen    uploadState = iota
	uploadMatched             // the bytes are what they should be
	uploadOver                // cancelled, or they are not
)

func newUpload(s *Store, row UploadRow) *Upload {
	return &Upload{
		s: s, id: row.ID, repo: row.Repo, by: row.By, started: row.Started, claim: make(chan struct{}, 1), row: row, sum: row.Algorithm.Hash(),
		room: allotment{s: s, partial: true}, news: make(chan struct{}),
	}
}

// newUploadID is a random UUID (RFC 9562, version 4), which the distribution
// specification asks for.
func newUploadID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// OpenUpload gives the upload id of repo to the caller, who releases it.
// ErrNotFound, also for one of another repository. While another caller has it,
// it waits; ErrBusy when ctx ends before that.
func (s *Store) OpenUpload(ctx context.Context, repo oci.Repo, id string) (*Upload, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	u := s.uploads.get(id)
	if u == nil || u.repo != repo {
		return nil, fmt.Errorf("upload %.100q in %s: %w", id, repo, ErrNotFound)
	}
	select {
	case u.claim <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("upload %s: %w", id, ErrBusy)
	}
	if s.uploads.get(id) != u { // it ended meanwhile
		<-u.claim
		return nil, fmt.Errorf("upload %s: %w", id, ErrNotFound)
	}
	return u, nil
}

// Uploads gives the ids of the uploads of which the row says that fn, by id.
func (s *Store) Uploads(ctx context.Context, fn func(UploadRow) bool) (ids []string, err error) {
	err = s.meta.View(ctx, func(tx Tx) error {
		ids = nil
		return tx.Uploads(func(row UploadRow) error {
			if fn(row) {
				ids = append(ids, row.ID)
			}
			return ctx.Err()
		})
	})
	return ids, err
}

// Release lets others have the upload.
func (u *Upload) Release() {
	if u.s.uploads.get(u.id) == u { // it is not over
		if !u.filed { // nobody was told of it
			_ = u.end(context.Background()) // a file that stays is swept
		} else if u.stateNow() == uploadOpen {
			_ = u.sync(context.Background()) // what it loses is sent again
		}
		u.Expect("") // who goes on with it says so again
	}
	if u.held != nil {
		u.closeFile(u.held)
		u.held = nil
	}
	<-u.claim
}

// Filed reports whether a client may have been told of the upload: it stays when
// it is released.
func (u *Upload) Filed() bool { return u.filed }

// ID names the upload.
func (u *Upload) ID() string { return u.id }

// Size is how many bytes have come.
func (u *Upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

// reserveAhead is how much room is made for bytes that a client says it will send.
const reserveAhead = 16 << 20

// Reserve says with ErrFull that there is no room for size bytes in all, whatever
// were evicted for them, and makes room for the next few megabytes: what a client
// merely announces evicts no more.
func (u *Upload) Reserve(ctx context.Context, size int64) error {
	if missing := size - u.room.size; missing > reserveAhead {
		never, err := u.s.never(ctx, missing)
		if err != nil {
			return err
		}
		if never {
			return fmt.Errorf("make room for %d bytes: %w", missing, ErrFull)
		}
		size = u.room.size + reserveAhead
	}
	return u.room.reserve(ctx, size)
}

// Write appends p, for which it may have to make room. ErrFull.
func (u *Upload) Write(ctx context.Context, p []byte) (int, error) {
	f, err := u.open(ctx, uploadOpen)
	if err != nil {
		return 0, err
	}
	if err := u.catchUp(ctx, f, u.row.Algorithm); err != nil {
		return 0, err
	}
	if err := u.room.write(ctx, int64(len(p))); err != nil {
		return 0, err
	}
	var n int
	err = u.s.unlessFull(ctx, int64(len(p)), func() (err error) {
		n, err = f.WriteAt(p, u.size) // size changes here alone
		return err
	})
	u.room.wrote(int64(n))
	u.sum.Write(p[:n])
	u.mu.Lock()
	u.size += int64(n)
	u.tell()
	u.mu.Unlock()
	u.s.uploads.grow(u, int64(n))
	return n, err
}

func (u *Upload) stateNow() uploadState {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// tell wakes who follows; u.mu is held.
func (u *Upload) tell() {
	close(u.news)
	u.news = make(chan struct{})
}

// OnMatch has fn called with the digest that the bytes turn out to match, before
// Follow comes to its end.
func (u *Upload) OnMatch(fn func(digest.Digest)) { u.match = fn }

// Watched reports whether OnMatch was called.
func (u *Upload) Watched() bool { return u.match != nil }

// Matches reports with ErrDigest that the bytes are not d's. From its success on
// Follow comes to its end, and nothing more can be written.
func (u *Upload) Matches(ctx context.Context, d digest.Digest) error {
	f, err := u.open(ctx, uploadMatched)
	if err != nil {
		return err
	}
	if err := u.catchUp(ctx, f, d.Algorithm()); err != nil {
		return err
	}
	if got := digest.NewDigest(d.Algorithm(), u.sum); got != d {
		return fmt.Errorf("upload %s: %w: they are %s, not %s", u.id, ErrDigest, got, d)
	}
	if u.match != nil {
		u.match(d)
	}
	u.setState(uploadMatched)
	return nil
}

func (u *Upload) setState(to uploadState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state = to
	u.tell()
}

// Cancel ends the upload and drops its bytes.
func (u *Upload) Cancel(ctx context.Context) error { return u.end(ctx) }

// end removes row, then bytes.
func (u *Upload) end(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	f, err := u.open(ctx, uploadOver)
	if errors.Is(err, ErrNotFound) { // too short a file, which is swept
		err = nil
	}
	if u.tried {
		err = errors.Join(err, u.s.meta.Update(ctx, func(tx Tx) error { return tx.DeleteUpload(u.id) }))
	}
	u.setState(uploadOver)
	u.s.uploads.drop(u)
	if f != nil {
		err = errors.Join(err, f.Remove())
	}
	u.room.release()
	return err
}
