package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// uploadPrefix begins the keys of uploads' partial files.
const uploadPrefix = "upload-"

// uploads are all that there are: those that have a row, and those that are
// sent in one go and need none.
type uploads struct {
	mu sync.Mutex
	m  map[string]*Upload
}

func (us *uploads) get(id string) *Upload {
	us.mu.Lock()
	defer us.mu.Unlock()
	return us.m[id]
}

func (us *uploads) put(u *Upload) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.m == nil {
		us.m = map[string]*Upload{}
	}
	us.m[u.row.ID] = u
}

func (us *uploads) drop(id string) {
	us.mu.Lock()
	defer us.mu.Unlock()
	delete(us.m, id)
}

// load takes over what an earlier process left.
func (us *uploads) load(s *Store, rows []UploadRow) {
	for _, row := range rows {
		u := newUpload(s, row)
		u.filed, u.synced, u.size = true, row.Size, row.Size
		u.sum = nil // of bytes that this process has not seen
		u.room.adopt(row.Size)
		us.put(u)
	}
}

// Upload is a blob that a client pushes, from its first byte to its last, in as
// many requests as it likes, over restarts too. Its bytes are unverified until
// Commit. One caller at a time has it, and releases it; any number may Follow.
type Upload struct {
	s     *Store
	claim chan struct{} // cap 1; whoever's token is in it has the upload

	// For who has the upload.
	row    UploadRow
	filed  bool      // row is written
	synced int64     // so many bytes are durable
	sum    hash.Hash // of the first size bytes; nil where it is to be made from the file
	room   allotment
	holds  bool // counted in users
	match  func(digest.Digest)

	mu    sync.Mutex
	file  PartialFile // nil while nobody needs it
	users int         // of file
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
		s: s, claim: make(chan struct{}, 1), row: row, sum: row.Algorithm.Hash(),
		room: allotment{s: s, partial: true}, news: make(chan struct{}),
	}
}

// NewUpload begins an upload to repo, which the caller has and releases. The
// digest it is expected to end with is of algorithm; with another one its bytes
// are hashed once more. It is forgotten by a crash until Checkpoint.
func (s *Store) NewUpload(ctx context.Context, repo oci.Repo, algorithm digest.Algorithm) (*Upload, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	now := s.now().UTC().Round(0)
	u := newUpload(s, UploadRow{ID: newUploadID(), Repo: repo, Algorithm: algorithm, Started: now, Touched: now})
	u.claim <- struct{}{}
	s.uploads.put(u)
	return u, nil
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
	if u == nil || u.row.Repo != repo {
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
	if !u.filed && u.s.uploads.get(u.row.ID) == u { // nobody was told of it
		_ = u.end(context.Background()) // a file that stays is swept
	}
	if u.holds {
		u.holds = false
		u.closeFile()
	}
	<-u.claim
}

// ID names the upload.
func (u *Upload) ID() string { return u.row.ID }

// Size is how many bytes have come.
func (u *Upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

// Reserve makes room for size bytes in all, those that are there included.
func (u *Upload) Reserve(ctx context.Context, size int64) error { return u.room.reserve(ctx, size) }

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
	n, err := f.WriteAt(p, u.size) // size changes here alone
	u.sum.Write(p[:n])
	u.mu.Lock()
	u.size += int64(n)
	u.tell()
	u.mu.Unlock()
	return n, err
}

// open gives the file, which stays open until the caller releases the upload,
// of one that is no further than latest.
func (u *Upload) open(ctx context.Context, latest uploadState) (PartialFile, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state > latest {
		return nil, fmt.Errorf("upload %s: %w: all of it has come", u.row.ID, ErrNotFound)
	}
	if u.holds {
		return u.file, nil
	}
	f, err := u.useLocked(ctx)
	u.holds = err == nil
	return f, err
}

// useLocked counts one more user of the file.
func (u *Upload) useLocked(ctx context.Context) (PartialFile, error) {
	if u.file != nil {
		u.users++
		return u.file, nil
	}
	f, err := u.s.blobs.OpenPartial(ctx, uploadPrefix+u.row.ID)
	if err != nil {
		return nil, err
	}
	if u.size > 0 && !reaches(f, []oci.Range{{Off: 0, End: u.size}}) {
		return nil, errors.Join(fmt.Errorf("upload %s: %w: its file is shorter than the %d bytes that were acknowledged", u.row.ID, ErrNotFound, u.size), f.Close())
	}
	u.file, u.users = f, 1
	return f, nil
}

// closeFile ends one use of the file.
func (u *Upload) closeFile() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users--; u.users == 0 {
		if err := u.file.Close(); err != nil {
			u.s.log.Warn("file of an upload not closed", "upload", u.row.ID, "err", err)
		}
		u.file = nil
	}
}

// tell wakes who follows; u.mu is held.
func (u *Upload) tell() {
	close(u.news)
	u.news = make(chan struct{})
}

// catchUp hashes what this process has not hashed by algorithm yet.
func (u *Upload) catchUp(ctx context.Context, f io.ReaderAt, algorithm digest.Algorithm) error {
	if u.sum != nil && u.row.Algorithm == algorithm {
		return nil
	}
	sum := algorithm.Hash()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < u.size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), u.size-off)], off)
		sum.Write(buf[:n])
		off += int64(n)
		if err != nil && off < u.size {
			return fmt.Errorf("read upload %s: %w", u.row.ID, err)
		}
	}
	u.sum, u.row.Algorithm = sum, algorithm
	return nil
}

// Checkpoint makes what has come durable: from there a client may go on, also
// after a crash.
func (u *Upload) Checkpoint(ctx context.Context) error {
	if u.size != u.synced {
		f, err := u.open(ctx, uploadMatched)
		if err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			u.s.metrics.failed(opCheckpoint)
			return err
		}
		u.synced = u.size
	}
	row := u.row
	row.Size, row.Touched = u.synced, u.s.now().UTC().Round(0)
	if err := u.s.meta.Update(ctx, func(tx Tx) error { return tx.PutUpload(row) }); err != nil {
		u.s.metrics.failed(opCheckpoint)
		return fmt.Errorf("file upload %s: %w", row.ID, err)
	}
	u.row, u.filed = row, true
	return nil
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
		return fmt.Errorf("upload %s: %w: they are %s, not %s", u.row.ID, ErrDigest, got, d)
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

// Commit makes the bytes, which Matches found to be d's, a blob of that kind.
// more, if not nil, runs in the transaction that writes its row, also when the
// blob is there already; what holds of Update's fn holds of it. All of it is
// durable when Commit returns. The upload is over then, also when it failed.
func (u *Upload) Commit(ctx context.Context, d digest.Digest, kind Kind, more func(Tx) error) error {
	u.mu.Lock()
	f, state := u.file, u.state
	u.mu.Unlock()
	if state != uploadMatched || f == nil {
		return fmt.Errorf("commit upload %s: %w: its bytes were not compared", u.row.ID, ErrDigest)
	}
	err := u.s.settle(ctx, BlobRow{Digest: d, Size: u.size, Kind: kind}, settlement{
		dur: Durable,
		bytes: func(there bool) error {
			if there {
				return f.Remove()
			}
			return f.Commit(ctx, d, u.size)
		},
		more: func(tx Tx) error {
			if u.filed {
				if err := tx.DeleteUpload(u.row.ID); err != nil {
					return err
				}
			}
			if more == nil {
				return nil
			}
			return more(tx)
		},
		done: u.room.release,
	})
	if err != nil {
		return errors.Join(err, u.end(ctx))
	}
	u.s.uploads.drop(u.row.ID)
	return nil
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
	if u.filed {
		err = errors.Join(err, u.s.meta.Update(ctx, func(tx Tx) error { return tx.DeleteUpload(u.row.ID) }))
	}
	u.setState(uploadOver)
	u.s.uploads.drop(u.row.ID)
	if f != nil {
		err = errors.Join(err, f.Remove())
	}
	u.room.release()
	return err
}

// sweepUpload removes the file of an upload that there is no more.
func (s *Store) sweepUpload(ctx context.Context, id string) (gone bool, err error) {
	if s.uploads.get(id) != nil {
		return false, nil
	}
	f, err := s.blobs.OpenPartial(ctx, uploadPrefix+id)
	if err != nil {
		return false, err
	}
	err = errors.Join(f.Remove(), f.Close())
	return err == nil, err
}
