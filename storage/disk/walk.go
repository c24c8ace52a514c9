package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// Walk goes through blobs/. Files whose name is no digest are not ours and are
// passed over, as are those that vanish meanwhile.
func (d *Disk) Walk(ctx context.Context, fn func(dgst digest.Digest, size func() (int64, error)) error) error {
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
			for _, e := range files {
				dgst := digest.NewDigestFromEncoded(a, e.Name())
				if _, hex, err := split(dgst); err != nil || hex[:2] != folder.Name() || !e.Type().IsRegular() {
					continue // not ours
				}
				if err := fn(dgst, func() (int64, error) { return sizeOf(e) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// HasBlobs reports whether the folder dir holds a blob's file, as Walk would find it. It
// makes and changes nothing, so that a store may be looked at before it is opened.
func HasBlobs(ctx context.Context, dir string) (bool, error) {
	errOne := errors.New("one is enough")
	err := (&Disk{root: dir, fs: OS{}}).Walk(ctx, func(digest.Digest, func() (int64, error)) error { return errOne })
	if errors.Is(err, errOne) {
		return true, nil
	}
	return false, err
}

// Quarantined counts the files in quarantine/, whatever they are.
func (d *Disk) Quarantined(ctx context.Context) (sum int64, err error) {
	files, err := d.list(ctx, "quarantine") // none, where nothing ever was put there
	for _, e := range files {
		n, serr := sizeOf(e)
		if serr != nil && !errors.Is(serr, storage.ErrNotFound) {
			err = errors.Join(err, serr)
		}
		sum += n
	}
	return sum, err
}

func sizeOf(e fs.DirEntry) (int64, error) {
	st, err := e.Info()
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", e.Name(), tell(err))
	}
	return st.Size(), nil
}

// WalkPartials goes through partial/.
func (d *Disk) WalkPartials(ctx context.Context, fn func(key string, size, held int64) error) error {
	files, err := d.list(ctx, "partial")
	if err != nil {
		return err
	}
	for _, e := range files {
		if !e.Type().IsRegular() || checkKey(e.Name()) != nil {
			continue // not ours
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(e.Name(), st.Size(), min(st.Size(), allocated(st))); err != nil {
			return err
		}
	}
	return nil
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
