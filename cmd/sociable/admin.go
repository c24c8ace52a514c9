package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// adminAPI is what the commands ask of a store, be it through the running
// server's socket or by opening it themselves.
type adminAPI interface {
	// Indexes lists every image that is indexed or on the way to it.
	Indexes(ctx context.Context) ([]IndexInfo, error)
	// Index is that of one image manifest. storage.ErrNotFound.
	Index(ctx context.Context, manifest digest.Digest) (IndexInfo, error)
	// Facts are what is known of an image. storage.ErrNotFound.
	Facts(ctx context.Context, name string) (web.Facts, error)
	// Stats is web.StatsOf.
	Stats(ctx context.Context, name string) (web.Stats, error)
	// These are the functions of the same name in package web, with their errors.
	Purge(ctx context.Context, q purgeQuery) (web.Purged, error)
	Unblock(ctx context.Context, name string) ([]digest.Digest, error)
	Blocks(ctx context.Context) ([]storage.BlockRow, error)
	Refresh(ctx context.Context, name string) (web.Tag, error)
	Pin(ctx context.Context, name string) (web.Pin, error)
	Unpin(ctx context.Context, name string) (web.Pin, error)
	Jobs(ctx context.Context) ([]web.Job, error)
	RetryJob(ctx context.Context, id string) (int, error)
	CancelJob(ctx context.Context, id string) (int, error)
	ClearJob(ctx context.Context, id string) (int, error)
	WithdrawIndex(ctx context.Context, name string) (web.Withdrawn, error) // web.Withdraw
	Learned(ctx context.Context, name string) ([]web.Learned, error)       // web.LearnedOf
	ResetLearned(ctx context.Context, name string) ([]digest.Digest, error)
	Pins(ctx context.Context) ([]web.Pin, error)
	Uploads(ctx context.Context) ([]storage.UploadInfo, error) // storage.Store.OpenUploads
	EventQueues(ctx context.Context) ([]web.EventQueue, error)
	RetryEvents(ctx context.Context, q web.EventsRequest) (web.EventsChanged, error)
	DropEvents(ctx context.Context, q web.EventsRequest) (web.EventsChanged, error)
	CancelUpload(ctx context.Context, id string) (storage.UploadInfo, error)
	Missing(ctx context.Context) ([]web.MissingThing, error)
	// Check is storage.Store.Check; tell hears of progress and problems.
	Check(ctx context.Context, q web.CheckRequest, tell func(web.CheckEvent)) (storage.CheckReport, error)
	// Create is web.Creator.Create; tell hears of progress.
	Create(ctx context.Context, q web.CreateRequest, tell func(web.CreateProgress)) ([]IndexInfo, error)
	// Collect is storage.Collector.Collect, by the running server's options.
	Collect(ctx context.Context, q collectQuery, found func(storage.Collected)) (storage.CollectReport, error)
	Close() error
}

// IndexInfo and LayerInfo are what the API shows of an image and its layers.
type (
	IndexInfo = web.Index
	LayerInfo = web.Layer
)

// connect reaches the store in dataDir: through the server that owns it, or, if
// none answers, by opening it.
func connect(ctx context.Context, dataDir string) (adminAPI, error) {
	if _, err := os.Stat(dataDir); errors.Is(err, fs.ErrNotExist) {
		return nil, noStore(dataDir)
	}
	path := filepath.Join(dataDir, adminSocket)
	dctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	probe, err := dialSocket(dctx, path)
	switch {
	case err == nil:
		probe.Close()
		return newAdminClient(path), nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		api, err := openOffline(ctx, dataDir)
		if errors.Is(err, storage.ErrLocked) {
			return nil, fmt.Errorf("the store in %s is in use by a process that does not answer at %s: %w", dataDir, path, err)
		}
		return api, err
	default:
		return nil, fmt.Errorf("reach the running server: %w", err)
	}
}

// withStore connects, calls fn and closes.
func withStore(ctx context.Context, dataDir string, fn func(adminAPI) error) error {
	api, err := connect(ctx, dataDir)
	if err != nil {
		return err
	}
	return errors.Join(fn(api), api.Close())
}

// serviceDir is the store of deploy/sociable.service, which the package brings.
const serviceDir = "/var/lib/sociable"

// noStore says that there is none in dir, and where there is one instead.
func noStore(dir string) error {
	return errors.New("there is no store in " + dir + ": name its folder with --data, or the server's configuration with --config" + serviceHint(dir, serviceDir))
}

// serviceHint names the service's store, if there is one and it is not in dir: it
// may be seen by everybody, but entered by root alone.
func serviceHint(dir, service string) string {
	if _, err := os.Lstat(service); err != nil || filepath.Clean(dir) == service {
		return ""
	}
	return "; the service's is --data " + service + ", as root"
}

// findDataDir is the folder of a command that was told of none: the environment's,
// or ./data; where that has no store and the service has one, it is the service's,
// and that is said, unless the command is about what its arguments name.
func findDataDir(cmd *cobra.Command, args ...string) string {
	if dir := os.Getenv(envName("storage.path")); dir != "" {
		return dir
	}
	dir := Default().Storage.Path
	if servesInstead(dir, serviceDir) {
		isFile := func(arg string) bool { _, err := os.Stat(arg); return err == nil }
		if !cmd.Flags().Changed("layout") && !slices.ContainsFunc(args, isFile) {
			fmt.Fprintf(cmd.ErrOrStderr(), "there is no store in %s: this is about the service's, in %s\n", dir, serviceDir)
		}
		return serviceDir
	}
	return dir
}

// servesInstead reports whether there is no store in dir, and one of the service's.
func servesInstead(dir, service string) bool { return !hasStore(dir) && hasStore(service) }

// hasStore reports whether there is a store in dir, or what is left of one, as far
// as the caller may see.
func hasStore(dir string) bool {
	return slices.ContainsFunc([]string{metaFile, adminSocket, "blobs"}, func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}
