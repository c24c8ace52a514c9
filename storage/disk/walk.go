package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
)

// Walk goes through blobs/. Files whose name is no digest are not ours and are
// passed over, as are those that vanish meanwhile.
func (d *Disk) Walk(ctx context.Context, fn func(dgst digest.Digest, size int64) error) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		folders, err := d.list(ctx, "blobs", a.String())
		if err != nil {
			return err
		}
		for _, folder := range folders {
			if !folder.IsDir() {
				continue
			}
			files, err := d.list(ctx, "blobs", a.String(), folder.Name())
			if err != nil {
				return err
			}
			err = each(files, func(name string, size int64) error {
				dgst := digest.NewDigestFromEncoded(a, name)
				if _, hex, err := split(dgst); err != nil || hex[:2] != folder.Name() {
					return nil //nolint:nilerr // not ours
				}
				return fn(dgst, size)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// WalkPartials goes through partial/.
func (d *Disk) WalkPartials(ctx context.Context, fn func(key string, size int64) error) error {
	files, err := d.list(ctx, "partial")
	if err != nil {
		return err
	}
	return each(files, func(name string, size int64) error {
		if checkKey(name) != nil {
			return nil //nolint:nilerr // not ours
		}
		return fn(name, size)
	})
}

func (d *Disk) list(ctx context.Context, elem ...string) ([]fs.DirEntry, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	entries, err := d.fs.ReadDir(d.path(elem...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", d.path(elem...), err)
	}
	return entries, nil
}

func each(entries []fs.DirEntry, fn func(name string, size int64) error) error {
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(e.Name(), st.Size()); err != nil {
			return err
		}
	}
	return nil
}
