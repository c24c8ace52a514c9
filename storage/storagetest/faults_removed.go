package storagetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sociable/sociable/storage/disk"
)

// removals are names of which the removal was not synced: after a power cut the
// file may be back. It is kept beside the store's folders until then.
type removals struct {
	n    int
	kept map[string]string // by the name that it had
}

// remove removes a file. durable says that it and its name were synced, so that it
// may come back.
func (r *removals) remove(fsys disk.FS, root, name string, durable bool) error {
	st, err := fsys.Stat(name)
	if err != nil || !durable || !st.Mode().IsRegular() {
		return fsys.Remove(name)
	}
	dir := filepath.Join(root, "removed")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	r.n++
	kept := filepath.Join(dir, strconv.Itoa(r.n))
	if err := os.Link(name, kept); err != nil {
		return err
	}
	if err := errors.Join(r.forget(name), fsys.Remove(name)); err != nil {
		return errors.Join(err, os.Remove(kept))
	}
	if r.kept == nil {
		r.kept = map[string]string{}
	}
	r.kept[name] = kept
	return nil
}

func (r *removals) forget(name string) error {
	kept, ok := r.kept[name]
	if !ok {
		return nil
	}
	delete(r.kept, name)
	return os.Remove(kept)
}

// synced makes removals in a folder durable.
func (r *removals) synced(dir string) error {
	var errs []error
	for name := range r.kept {
		if filepath.Dir(name) == dir {
			errs = append(errs, r.forget(name))
		}
	}
	return errors.Join(errs...)
}

// powerCut brings the files back, where back says so and nothing has their names.
func (r *removals) powerCut(back bool) error {
	var errs []error
	for name, kept := range r.kept {
		if _, err := os.Lstat(name); back && errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Rename(kept, name))
		} else {
			errs = append(errs, os.Remove(kept))
		}
	}
	clear(r.kept)
	return errors.Join(errs...)
}
