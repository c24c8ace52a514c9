package storage

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// EndIdle cancels, of the uploads to upstream's repositories that nobody has gone
// on with for idle, the one of which that is true for longest. It reports whether
// there was one. What a request has at the moment is not idle.
func (s *Store) EndIdle(ctx context.Context, upstream string, idle time.Duration) (bool, error) {
	var rows []UploadRow
	now := s.now()
	err := s.View(ctx, func(tx Tx) error {
		rows = nil
		return tx.Uploads(func(row UploadRow) error {
			if row.Repo.Upstream == upstream && now.Sub(row.Touched) > idle {
				rows = append(rows, row)
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return false, err
	}
	slices.SortFunc(rows, func(a, b UploadRow) int { return cmp.Or(a.Touched.Compare(b.Touched), cmp.Compare(a.ID, b.ID)) })
	for i := range rows {
		if ended, err := s.endIdle(ctx, rows[i].ID, now.Add(-idle)); ended || err != nil {
			return ended, err
		}
	}
	return false, nil
}

func (s *Store) endIdle(ctx context.Context, id string, since time.Time) (bool, error) {
	u := s.uploads.get(id)
	if u == nil {
		return false, nil
	}
	select {
	case u.claim <- struct{}{}:
	default:
		return false, nil
	}
	defer u.Release()
	if s.uploads.get(id) != u || !u.row.Touched.Before(since) || u.Size() == 0 { // over, gone on with, or it takes no room
		return false, nil
	}
	err := u.Cancel(ctx)
	return err == nil, err
}
