package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/web"
)

// offline is a store that no server has open.
type offline struct {
	store *storage.Store
	close func() error
}

// openOffline opens the store itself, waiting at most a second for its lock:
// storage.ErrLocked when another process owns it. It never makes one.
func openOffline(dataDir string) (adminAPI, error) {
	rows := filepath.Join(dataDir, metaFile)
	if _, err := os.Stat(rows); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no store in %s: name its folder with --data", dataDir)
	}
	meta, err := bolt.Open(rows, bolt.Options{})
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", dataDir, err)
	}
	blobs, err := disk.New(dataDir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", dataDir, err), meta.Close())
	}
	return &offline{storage.New(storage.Options{Blobs: blobs, Meta: meta}), meta.Close}, nil
}

func (o *offline) Indexes(ctx context.Context) ([]IndexInfo, error) { return web.Indexes(ctx, o.store) }

func (o *offline) Index(ctx context.Context, manifest digest.Digest) (IndexInfo, error) {
	return web.IndexOf(ctx, o.store, manifest)
}

func (o *offline) Purge(ctx context.Context, d digest.Digest) (int64, error) {
	return o.store.Purge(ctx, d)
}

func (o *offline) Close() error { return o.close() }
