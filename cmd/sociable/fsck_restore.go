package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/web"
)

// restoredFile is what a repair files blobs in whose rows are lost. It becomes
// metaFile when all are filed: a server that started before would take the others
// for a crash's leftovers, and remove them.
const restoredFile = metaFile + ".restored"

// repair has check mend the store in dataDir, and file its blobs anew where its rows
// are lost.
func repair(ctx context.Context, dataDir string, check func(adminAPI) error) error {
	lost, err := lostRows(ctx, dataDir)
	if err != nil {
		return err
	}
	if !lost { // that there is no store is said by who opens it
		if err := clearRestored(dataDir); err != nil {
			return err
		}
		return withStore(ctx, dataDir, check)
	}
	running, err := withRunning(ctx, dataDir, func(_ context.Context, c *adminClient) error { return check(c) })
	if running || err != nil {
		return err // a server that runs has its file open still
	}
	api, err := openRestoring(dataDir)
	if err != nil {
		return err
	}
	return restoredRows(errors.Join(check(api), api.Close()))
}

// clearRestored removes what a repair that was killed has left, once there are rows.
func clearRestored(dataDir string) error {
	if st, err := os.Stat(filepath.Join(dataDir, metaFile)); err != nil || st.Size() == 0 {
		return nil //nolint:nilerr // it is told by who opens the store
	}
	if err := os.Remove(filepath.Join(dataDir, restoredFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what a killed repair has left: %w", err)
	}
	return nil
}

// restoring is an offline store whose rows are lost, and filed anew by its Check.
type restoring struct {
	adminAPI
	dir string
}

// openRestoring opens a store whose rows are lost, with what an earlier repair has
// filed: storage.ErrLocked while another one runs.
func openRestoring(dataDir string) (*restoring, error) {
	meta, err := bolt.Open(filepath.Join(dataDir, restoredFile), bolt.Options{})
	if err != nil {
		return nil, fmt.Errorf("restore the rows of the store in %s: %w", dataDir, err)
	}
	if !rowsGone(dataDir) { // the other one has just ended
		err := fmt.Errorf("restore the rows of the store in %s: it has rows again: run sociable fsck --repair once more", dataDir)
		return nil, errors.Join(err, clearRestored(dataDir), meta.Close())
	}
	api, err := newOffline(dataDir, meta)
	if err != nil {
		return nil, err
	}
	return &restoring{api, dataDir}, nil
}

// Check has the rows be the store's when all blobs are filed.
func (r *restoring) Check(ctx context.Context, q web.CheckRequest, tell func(web.CheckEvent)) (storage.CheckReport, error) {
	report, err := r.adminAPI.Check(ctx, q, tell)
	if err == nil {
		err = r.keep()
	}
	if err != nil {
		err = fmt.Errorf("%w; the rows of the store in %s are not restored: run sociable fsck --repair again", err, r.dir)
	}
	return report, err
}

// keep gives the file its name while it is open, and so locked: who opens it by that
// name waits until the repair is over.
func (r *restoring) keep() error {
	if !rowsGone(r.dir) {
		return fmt.Errorf("%s has come back meanwhile, and stays", metaFile)
	}
	if err := os.Rename(filepath.Join(r.dir, restoredFile), filepath.Join(r.dir, metaFile)); err != nil {
		return fmt.Errorf("keep the restored rows: %w", err)
	}
	folder, err := os.Open(r.dir)
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fmt.Errorf("keep the restored rows: %w", err)
	}
	return nil
}
