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
	mu   sync.Mutex
	m    map[string]*Upload
	by   map[string]int                          // how many each caller has
	sum  map[string]int64                        // what has come of those of each upstream that nothing is expected of
	same map[string]map[digest.Digest]sameUpload // the others, by upstream and by what they are to become
}

// sameUpload are uploads that are to become the same blob.
type sameUpload map[*Upload]struct{}

// most is what has come of the largest, but for u.
func (of sameUpload) most(u *Upload) (n int64) {
	for other := range of {
		if other != u {
			n = max(n, other.counted)
		}
	}
	return n
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
		us.m, us.by, us.sum = map[string]*Upload{}, map[string]int{}, map[string]int64{}
	}
	by := u.row.By
	if most > 0 && us.by[by] >= most {
		return fmt.Errorf("begin an upload: %w: %d are open", ErrTooMany, us.by[by])
	}
	us.m[u.id] = u
	us.by[by]++
	u.counted = u.size
	us.sum[u.repo.Upstream] += u.size
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
	us.expectLocked(u, "")
	us.sum[u.repo.Upstream] -= u.counted
	u.counted = 0
}

// expectLocked moves u to those that are to become d, which may be "" for what is
// not known; us.mu is held.
func (us *uploads) expectLocked(u *Upload, d digest.Digest) {
	up := u.repo.Upstream
	if u.expects == d {
		return
	}
	if of := us.same[up]; u.expects == "" {
		us.sum[up] -= u.counted
	} else if delete(of[u.expects], u); len(of[u.expects]) == 0 {
		delete(of, u.expects)
	}
	if u.expects = d; d == "" {
		us.sum[up] += u.counted
		return
	}
	if us.same == nil {
		us.same = map[string]map[digest.Digest]sameUpload{}
	}
	if us.same[up] == nil {
		us.same[up] = map[digest.Digest]sameUpload{}
	}
	if us.same[up][d] == nil {
		us.same[up][d] = sameUpload{}
	}
	us.same[up][d][u] = struct{}{}
}

// grow counts n more bytes of u.
func (us *uploads) grow(u *Upload, n int64) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if u.counted += n; u.expects == "" {
		us.sum[u.repo.Upstream] += n
	}
	if n > 0 {
		u.refused, u.givesWay = false, false
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
	us.m, us.by, us.sum, us.same = nil, nil, nil, nil
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
