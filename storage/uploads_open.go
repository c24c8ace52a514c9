package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// uploads are all that there are: those that have a row, and those that are
// sent in one go and need none.
type uploads struct {
	mu    sync.Mutex
	m     map[string]*Upload
	by    map[string]int       // how many each caller has
	bytes map[string]int64     // that count, of each upstream
	first map[expected]*Upload // that counts for all that are to become the same
}

// expected is a blob that uploads to an upstream's repositories are to become.
type expected struct {
	upstream string
	d        digest.Digest
}

func (us *uploads) get(id string) *Upload {
	us.mu.Lock()
	defer us.mu.Unlock()
	return us.m[id]
}

// put adds u; ErrTooMany when its caller has most already, if that is not 0.
func (us *uploads) put(u *Upload, most int) error {
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.m == nil {
		us.m, us.by, us.bytes = map[string]*Upload{}, map[string]int{}, map[string]int64{}
	}
	by := u.row.By
	if most > 0 && us.by[by] >= most {
		return fmt.Errorf("begin an upload: %w: %d are open", ErrTooMany, us.by[by])
	}
	us.m[u.id] = u
	us.by[by]++
	u.counted = u.size
	us.bytes[u.repo.Upstream] += u.size
	return nil
}

func (us *uploads) drop(u *Upload) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.m[u.id] != u {
		return
	}
	delete(us.m, u.id)
	if us.by[u.row.By]--; us.by[u.row.By] == 0 {
		delete(us.by, u.row.By)
	}
	us.spareLocked(u)
	if us.first[u.expects] == u {
		delete(us.first, u.expects)
	}
}

// spareLocked has u not count; us.mu is held.
func (us *uploads) spareLocked(u *Upload) {
	us.bytes[u.repo.Upstream] -= u.counted
	u.counted, u.spared = 0, true
}

// grow counts n more bytes of u.
func (us *uploads) grow(u *Upload, n int64) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if !u.spared {
		u.counted += n
		us.bytes[u.repo.Upstream] += n
	}
}

// load takes over what an earlier process left.
func (us *uploads) load(s *Store, rows []UploadRow) {
	for _, row := range rows {
		u := newUpload(s, row)
		u.filed, u.tried, u.synced, u.size = true, true, row.Size, row.Size
		u.sum = nil // of bytes that this process has not seen
		u.room.adopt(row.Size)
		_ = us.put(u, 0) // without a limit it does not fail
	}
}

// unload undoes load.
func (us *uploads) unload() {
	us.mu.Lock()
	defer us.mu.Unlock()
	for _, u := range us.m {
		u.room.release()
	}
	us.m, us.by, us.bytes = nil, nil, nil
}

// NewUpload is NewUploadBy for nobody in particular, who may have any number.
func (s *Store) NewUpload(ctx context.Context, repo oci.Repo, algorithm digest.Algorithm) (*Upload, error) {
	return s.NewUploadBy(ctx, "", 0, repo, algorithm)
}

// NewUploadBy begins an upload to repo, which the caller has and releases. The
// digest it is expected to end with is of algorithm; with another one its bytes
// are hashed once more. It is forgotten by a crash until Checkpoint. ErrTooMany
// when most uploads of the client by are open already, 0 being any number.
func (s *Store) NewUploadBy(ctx context.Context, by string, most int, repo oci.Repo, algorithm digest.Algorithm) (*Upload, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	now := s.now().UTC().Round(0)
	u := newUpload(s, UploadRow{ID: newUploadID(), Repo: repo, By: by, Algorithm: algorithm, Started: now, Touched: now})
	u.claim <- struct{}{}
	if err := s.uploads.put(u, most); err != nil {
		return nil, err
	}
	return u, nil
}

// OpenBytes is how many bytes of open uploads to upstream's repositories are
// here, but for those that were spared.
func (s *Store) OpenBytes(upstream string) int64 {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	return s.uploads.bytes[upstream]
}

// Spare has the upload's bytes not be in OpenBytes: they will come to nothing
// that is not counted already.
func (u *Upload) Spare() {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	us.spareLocked(u)
}

// Expect says that the upload is to become d. It reports whether another one that
// is open was said to: that one counts for both, and this one is spared.
func (u *Upload) Expect(d digest.Digest) (spared bool) {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.m[u.id] != u {
		return u.spared // it is over
	}
	if us.first == nil {
		us.first = map[expected]*Upload{}
	}
	if us.first[u.expects] == u {
		delete(us.first, u.expects)
	}
	u.expects = expected{u.repo.Upstream, d}
	if first := us.first[u.expects]; first == nil {
		us.first[u.expects] = u
		us.countLocked(u)
	} else {
		us.spareLocked(u)
	}
	return u.spared
}

// countLocked has u count, whatever was said before; us.mu is held.
func (us *uploads) countLocked(u *Upload) {
	if us.m[u.id] != u || !u.spared {
		return
	}
	u.spared, u.counted = false, u.Size()
	us.bytes[u.repo.Upstream] += u.counted
}

// Count has the upload count by itself, as one does that no request has.
func (u *Upload) Count() {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.first[u.expects] == u {
		delete(us.first, u.expects)
	}
	u.expects = expected{}
	us.countLocked(u)
}

// Filing says, within the transaction that files d for the upload's upstream, that
// it counts there from now on: neither the upload does, nor the one that counted for
// it. Where that comes to nothing the upload counts again when it is released.
func (u *Upload) Filing(d digest.Digest) {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	us.spareLocked(u)
	if first := us.first[expected{u.repo.Upstream, d}]; first != nil {
		us.spareLocked(first)
	}
}

// Counted is how many bytes of the upload, and of the one that counts for it, are
// in OpenBytes.
func (u *Upload) Counted() int64 {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	n := u.counted
	if first := us.first[u.expects]; first != nil && first != u {
		n += first.counted
	}
	return n
}

// OpenUploads are those that are not over, whoever's they are.
type OpenUploads struct {
	Uploads int
	Bytes   int64 // that have come
}

func (us *uploads) open() (o OpenUploads) {
	us.mu.Lock()
	all := slices.Collect(maps.Values(us.m))
	us.mu.Unlock()
	for _, u := range all {
		o.Uploads++
		o.Bytes += u.Size()
	}
	return o
}
