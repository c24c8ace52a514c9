package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/web"
)

// offline is a store that no server has open.
type offline struct {
	dir    string
	store  *storage.Store
	close  func() error
	limits indexer.Limits // of what Create makes; the server's own are not known
	rules  []indexer.Rule // the same
}

// openOffline opens the store itself, waiting at most a second for its lock:
// storage.ErrLocked when another process owns it. It never makes one.
func openOffline(ctx context.Context, dataDir string) (adminAPI, error) {
	rows := filepath.Join(dataDir, metaFile)
	if err := refuseLostRows(ctx, dataDir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(rows); errors.Is(err, fs.ErrNotExist) {
		return nil, noStore(dataDir)
	}
	meta, err := bolt.Open(rows, bolt.Options{})
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", dataDir, err)
	}
	return newOffline(dataDir, meta)
}

// newOffline is the store of the opened rows meta, which it closes if it can't be had.
func newOffline(dataDir string, meta *bolt.DB) (adminAPI, error) {
	blobs, err := disk.New(dataDir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", dataDir, err), meta.Close())
	}
	return &offline{dir: dataDir, store: storage.New(storage.Options{Blobs: blobs, Meta: meta}), close: closing(blobs, meta)}, nil
}

func (o *offline) Indexes(ctx context.Context) ([]IndexInfo, error) {
	return web.Indexes(ctx, o.store, nil)
}

func (o *offline) Index(ctx context.Context, manifest digest.Digest) (IndexInfo, error) {
	return web.IndexOf(ctx, o.store, manifest, nil)
}

func (o *offline) Stats(ctx context.Context, name string) (web.Stats, error) {
	out, err := web.StatsOf(ctx, o.store, name)
	if err == nil && name == "" {
		out.Namespaces, err = web.NamespacesOf(ctx, o.store)
	}
	return out, err
}

func (o *offline) Facts(ctx context.Context, name string) (web.Facts, error) {
	return web.FactsOf(ctx, o.store, name)
}

func (o *offline) Purge(ctx context.Context, q purgeQuery) (web.Purged, error) {
	return web.Purge(ctx, o.store, q.PurgeRequest, q.immutable)
}

func (o *offline) Unblock(ctx context.Context, name string) ([]digest.Digest, error) {
	return web.Unblock(ctx, o.store, name)
}

func (o *offline) Blocks(ctx context.Context) ([]storage.BlockRow, error) {
	return web.Blocks(ctx, o.store)
}

func (o *offline) Refresh(ctx context.Context, name string) (web.Tag, error) {
	return web.Refresh(ctx, o.store, name)
}

func (o *offline) Pin(ctx context.Context, name string) (web.Pin, error) {
	return web.PinImage(ctx, o.store, name)
}

func (o *offline) Unpin(ctx context.Context, name string) (web.Pin, error) {
	return web.Unpin(ctx, o.store, name)
}

func (o *offline) Jobs(ctx context.Context) ([]web.Job, error) {
	return web.Jobs(ctx, o.store, time.Now())
}

func (o *offline) RetryJob(ctx context.Context, id string) (int, error) {
	return web.RetryJob(ctx, o.store, id)
}

func (o *offline) CancelJob(ctx context.Context, id string) (int, error) {
	return web.CancelJob(ctx, o.store, id)
}

func (o *offline) ClearJob(ctx context.Context, id string) (int, error) {
	return web.ClearJob(ctx, o.store, id)
}

func (o *offline) WithdrawIndex(ctx context.Context, name string) (web.Withdrawn, error) {
	return web.Withdraw(ctx, o.store, name)
}

func (o *offline) Uploads(ctx context.Context) ([]storage.UploadInfo, error) {
	return o.store.OpenUploads(ctx)
}

func (o *offline) CancelUpload(ctx context.Context, id string) (storage.UploadInfo, error) {
	return web.CancelUpload(ctx, o.store, id)
}

func (o *offline) Pins(ctx context.Context) ([]web.Pin, error) { return web.Pins(ctx, o.store) }

func (o *offline) Check(ctx context.Context, q web.CheckRequest, tell func(web.CheckEvent)) (storage.CheckReport, error) {
	return o.store.Check(ctx, q.Options(tell))
}

func (o *offline) Collect(ctx context.Context, q collectQuery, found func(storage.Collected)) (storage.CollectReport, error) {
	options, err := q.options(o.store)
	if err != nil {
		return storage.CollectReport{}, err
	}
	if q.Grace != nil {
		options.Grace = *q.Grace
	}
	return storage.NewCollector(options).Collect(ctx, q.DryRun, found)
}

func (o *offline) Close() error { return o.close() }
