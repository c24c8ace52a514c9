package storage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// Refuse takes back what has come of the upload since it was last durable: there is
// no room for it now. Who goes on with the upload sends that again. Until then it
// makes room for older ones, see EndYounger. When it fails the upload is of no use.
func (u *Upload) Refuse(ctx context.Context) error {
	if u.size != u.synced {
		f, err := u.open(ctx, uploadOpen)
		if err == nil {
			err = f.Truncate(u.synced)
		}
		if err != nil {
			return err
		}
		u.cutBack()
		u.room.release()
		u.room.adopt(u.synced)
		u.match = nil // who followed it has come to an end
	}
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	u.refused = true
	return nil
}

// GiveWay says that nobody is expected to go on with the upload: whatever needs its
// room, or its place among its client's, may have it at once, see EndYounger and
// EndRefused. Until then it is where it is, for whoever goes on with it all the same.
func (u *Upload) GiveWay() {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	u.refused, u.givesWay = true, true
}

// Started is when the upload began.
func (u *Upload) Started() time.Time { return u.started }

// probe is how much Repeats compares at once.
const probe = 4 << 10

// Repeats reports whether b seems to begin with the upload's bytes: their first and
// their last are the same there. Nobody may rely on more.
func (u *Upload) Repeats(ctx context.Context, b io.ReaderAt) (bool, error) {
	if u.size == 0 {
		return true, nil
	}
	f, err := u.open(ctx, uploadMatched)
	if err != nil {
		return false, err
	}
	n := min(probe, u.size)
	ours, theirs := make([]byte, n), make([]byte, n)
	for _, off := range []int64{0, u.size - n} {
		if _, err := readSome(f, ours, off, n); err != nil {
			return false, fmt.Errorf("read upload %s: %w", u.id, err)
		}
		if _, err := readSome(b, theirs, off, n); err != nil {
			return false, fmt.Errorf("compare with upload %s: %w", u.id, err)
		}
		if !bytes.Equal(ours, theirs) {
			return false, nil
		}
	}
	return true, nil
}

// before orders uploads by when they began.
func (u *Upload) before(other *Upload) bool { return u.compare(other) < 0 }

func (u *Upload) compare(other *Upload) int {
	return cmp.Or(u.started.Compare(other.started), cmp.Compare(u.id, other.id))
}

// GoesFirst reports that requests send to other uploads to the same upstream at the moment,
// and that all of these began after this one.
func (u *Upload) GoesFirst() bool {
	sent := u.others(func(other *Upload) bool { return len(other.claim) > 0 })
	return len(sent) > 0 && !slices.ContainsFunc(sent, func(other *Upload) bool { return other.before(u) })
}

// EndYounger cancels one of the uploads to the same upstream that no request has: the
// last of those that give way, or else of those that began after this one and were
// refused. It reports whether there was one. So of several that wait for each other's
// room, the oldest goes on.
func (u *Upload) EndYounger(ctx context.Context) (bool, error) {
	list := u.others(func(other *Upload) bool { return other.givesWay || other.refused && u.before(other) })
	slices.SortFunc(list, func(a, b *Upload) int { return b.compare(a) })
	list = append(u.s.uploads.givingWay(list, true), u.s.uploads.givingWay(list, false)...)
	return u.s.uploads.endRefused(ctx, list)
}

// givingWay are those of list that give way, or that do not.
func (us *uploads) givingWay(list []*Upload, want bool) (of []*Upload) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for _, u := range list {
		if u.givesWay == want {
			of = append(of, u)
		}
	}
	return of
}

// others are the uploads to u's upstream that take room and of which which says so,
// without u.
func (u *Upload) others(which func(*Upload) bool) (list []*Upload) {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	for _, other := range us.m {
		if other != u && other.repo.Upstream == u.repo.Upstream && other.counted > 0 && which(other) {
			list = append(list, other)
		}
	}
	return list
}

// EndRefused cancels, of the uploads of the client by that were refused, the oldest
// that no request has. It reports whether there was one.
func (s *Store) EndRefused(ctx context.Context, by string) (bool, error) {
	us := &s.uploads
	var list []*Upload
	us.mu.Lock()
	for _, u := range us.m {
		if u.refused && u.by == by {
			list = append(list, u)
		}
	}
	us.mu.Unlock()
	slices.SortFunc(list, (*Upload).compare)
	return us.endRefused(ctx, list)
}

// endRefused cancels the first of list that no request has and that nobody has gone
// on with since it was refused.
func (us *uploads) endRefused(ctx context.Context, list []*Upload) (bool, error) {
	for _, u := range list {
		select {
		case u.claim <- struct{}{}:
		default:
			continue
		}
		us.mu.Lock()
		ended := us.m[u.id] == u && u.refused
		us.mu.Unlock()
		var err error
		if ended {
			err = u.Cancel(ctx)
		}
		u.Release()
		if ended || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}
