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
	us.m[u.id] = u
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
		u.filed, u.tried, u.synced, u.size = true, true, row.Size, row.Size
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
	id    string
	repo  oci.Repo
	claim chan struct{} // cap 1; whoever's token is in it has the upload

	// For who has the upload.
	row    UploadRow
	filed  bool      // row is written
	tried  bool      // it may be: what failed may have been stored all the same
	synced int64     // so many bytes are durable
	sum    hash.Hash // of the first size bytes; nil where it is to be made from the file
	room   allotment
	held   *uploadFile // whose user it is; nil where it has not needed it yet
	match  func(digest.Digest)

	mu    sync.Mutex
	file  *uploadFile // nil while nobody needs it; opened by who has the upload alone
	size  int64       // written and hashed
	state uploadState
	news  chan struct{} // closed when any of these changes
}

// uploadFile is the open file of an upload. The last of its users closes it.
type uploadFile struct {
	PartialFile
	users int // guarded by Upload.mu
}

type uploadState int

const (
	uploadOpen    uploadState = iota
	uploadMatched             // the bytes are what they should be
	uploadOver                // cancelled, or they are not
)

func newUpload(s *Store, row UploadRow) *Upload {
	return &Upload{
		s: s, id: row.ID, repo: row.Repo, claim: make(chan struct{}, 1), row: row, sum: row.Algorithm.Hash(),
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
	if u.stateNow() > latest {
		return nil, fmt.Errorf("upload %s: %w: all of it has come", u.id, ErrNotFound)
	}
	if u.held == nil {
		f, err := u.use(ctx)
		if err != nil {
			return nil, err
		}
		u.held = f
	}
	return u.held, nil
}

// use counts one more user of the file; the caller has the upload.
func (u *Upload) use(ctx context.Context) (*uploadFile, error) {
	u.mu.Lock()
	f, size := u.file, u.size
	if f != nil {
		f.users++
	}
	u.mu.Unlock()
	if f != nil {
		return f, nil
	}
	opened, err := u.s.blobs.OpenPartial(ctx, uploadPrefix+u.id)
	if err != nil {
		return nil, err
	}
	if size > 0 && !reaches(opened, []oci.Range{{Off: 0, End: size}}) {
		return nil, errors.Join(fmt.Errorf("upload %s: %w: its file is shorter than the %d bytes that were acknowledged", u.id, ErrNotFound, size), opened.Close())
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.file = &uploadFile{PartialFile: opened, users: 1}
	return u.file, nil
}

// closeFile ends one use of f.
func (u *Upload) closeFile(f *uploadFile) {
	u.mu.Lock()
	f.users--
	last := f.users == 0
	if last && u.file == f {
		u.file = nil
	}
	u.mu.Unlock()
	if !last {
		return
	}
	if err := f.Close(); err != nil {
		u.s.log.Warn("file of an upload not closed", "upload", u.id, "err", err)
	}
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
			return fmt.Errorf("read upload %s: %w", u.id, err)
		}
	}
	u.sum, u.row.Algorithm = sum, algorithm
	return nil
}

// Checkpoint makes what has come durable: from there a client may go on, also
// after a crash. When it fails, what came since the last one may have to be sent
// again, see Size.
func (u *Upload) Checkpoint(ctx context.Context) error {
	if err := u.sync(ctx); err != nil {
		return err
	}
	return u.fileRow(ctx, "")
}

// sync makes durable what has come. When the medium can't, what came since it
// last did is forgotten: pages that it lost count as written, so that a second
// attempt would succeed without them.
func (u *Upload) sync(ctx context.Context) error {
	if u.size == u.synced {
		return nil
	}
	f, err := u.open(ctx, uploadMatched)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		u.s.metrics.failed(opCheckpoint)
		u.cutBack()
		return err
	}
	u.synced = u.size
	return nil
}

// cutBack forgets what is not durable, and the file as it is open: the client
// writes those bytes anew, and who follows the upload has come to its end.
func (u *Upload) cutBack() {
	u.room.count(u.synced - u.size)
	u.sum = nil
	u.mu.Lock()
	u.size, u.state, u.file = u.synced, uploadOpen, nil
	u.tell()
	u.mu.Unlock()
	u.closeFile(u.held)
	u.held = nil
}

// fileRow writes the upload's row. What is synced is about to become d, if that
// is not "".
func (u *Upload) fileRow(ctx context.Context, d digest.Digest) error {
	row := u.row
	row.Size, row.Touched, row.Digest = u.synced, u.s.now().UTC().Round(0), d
	u.tried = true
	if err := u.s.meta.Update(ctx, func(tx Tx) error { return tx.PutUpload(row) }); err != nil {
		u.s.metrics.failed(opCheckpoint)
		return fmt.Errorf("file upload %s: %w", u.id, err)
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
	u.s.uploads.drop(u.id)
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
