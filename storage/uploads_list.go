package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// UploadInfo is an upload that is not over, as operators see it.
type UploadInfo struct {
	ID         string    `json:"id"`
	Repository string    `json:"repository"`
	Caller     string    `json:"caller,omitempty"` // a user or an address, where it was noted
	Started    time.Time `json:"started"`
	Touched    time.Time `json:"touched"` // the last request that was acknowledged
	Bytes      int64     `json:"bytes"`   // that have come
	Busy       bool      `json:"busy"`    // a request has it at this moment
}

// OpenUploads lists the uploads that are not over, the oldest first.
func (s *Store) OpenUploads(ctx context.Context) ([]UploadInfo, error) {
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	touched := map[string]time.Time{}
	err := s.meta.View(ctx, func(tx Tx) error {
		clear(touched)
		return tx.Uploads(func(row UploadRow) error {
			touched[row.ID] = row.Touched
			return ctx.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list uploads: %w", err)
	}
	s.uploads.mu.Lock()
	all := slices.Collect(maps.Values(s.uploads.m))
	s.uploads.mu.Unlock()
	slices.SortFunc(all, (*Upload).compare)
	list := make([]UploadInfo, 0, len(all))
	for _, u := range all {
		x := UploadInfo{
			ID: u.id, Repository: u.repo.String(), Caller: u.by, Started: u.started, Touched: u.started, Bytes: u.Size(), Busy: len(u.claim) > 0,
		}
		if at, filed := touched[u.id]; filed {
			x.Touched = at
		}
		list = append(list, x)
	}
	return list, nil
}

// CancelUpload ends the upload id, whoever's it is, and drops its bytes: its client
// has to begin anew. ErrNotFound. While a request has it, it waits; ErrBusy when ctx
// ends before that.
func (s *Store) CancelUpload(ctx context.Context, id string) (UploadInfo, error) {
	if err := s.count(ctx); err != nil {
		return UploadInfo{}, err
	}
	u := s.uploads.get(id)
	if u == nil {
		return UploadInfo{}, noUpload(id)
	}
	select {
	case u.claim <- struct{}{}:
	case <-ctx.Done():
		return UploadInfo{}, fmt.Errorf("a request is sending to upload %s of %s: stop its client, and cancel it then: %w", id, u.repo, ErrBusy)
	}
	defer u.Release()
	if s.uploads.get(id) != u { // it ended meanwhile
		return UploadInfo{}, noUpload(id)
	}
	x := UploadInfo{ID: u.id, Repository: u.repo.String(), Caller: u.by, Started: u.started, Touched: u.row.Touched, Bytes: u.Size()}
	if err := u.Cancel(ctx); err != nil {
		return UploadInfo{}, fmt.Errorf("cancel upload %s: %w", id, err)
	}
	return x, nil
}

func noUpload(id string) error {
	return fmt.Errorf("no upload %.100q is open: %w", id, ErrNotFound)
}
