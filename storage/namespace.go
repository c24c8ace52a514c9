package storage

import (
	"context"
	"fmt"
)

// NamespaceUse is how full a hosted namespace is.
type NamespaceUse struct {
	Name string `json:"name"`
	// Bytes is what its repositories have, each digest once.
	Bytes int64 `json:"bytes"`
	// UploadBytes is what has come of open uploads and is more than that; the quota
	// covers both.
	UploadBytes int64 `json:"upload_bytes"`
	Quota       int64 `json:"quota"` // bytes; 0: there is none, or it is not known
}

// Used is how much of the quota is taken, from 0; 0 where there is none.
func (n NamespaceUse) Used() float64 {
	if n.Quota <= 0 {
		return 0
	}
	return float64(n.Bytes+n.UploadBytes) / float64(n.Quota)
}

// NamespaceUse tells how full the hosted namespace name is.
func (s *Store) NamespaceUse(ctx context.Context, name string, quota int64) (NamespaceUse, error) {
	use := NamespaceUse{Name: name, Quota: quota}
	if err := s.count(ctx); err != nil {
		return use, err
	}
	open := s.OpenCount(name) // before the rows, see there
	err := s.meta.View(ctx, func(tx Tx) (err error) {
		if use.Bytes, err = tx.ContentBytes(name); err == nil {
			use.UploadBytes, err = open.Beside(tx, name)
		}
		return err
	})
	if err != nil {
		return NamespaceUse{}, fmt.Errorf("measure namespace %s: %w", name, err)
	}
	return use, nil
}

// ContentNamespaces gives the upstreams of which a repository has anything that was
// pushed, by name.
func (s *Store) ContentNamespaces(ctx context.Context) (names []string, err error) {
	err = s.meta.View(ctx, func(tx Tx) error {
		names = nil
		return tx.AllContents(func(row ContentRow) error {
			if n := len(names); n == 0 || names[n-1] != row.Repo.Upstream {
				names = append(names, row.Repo.Upstream)
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	return names, nil
}
