package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// serverFlags are the flags of commands that need a server: the one that runs,
// or else one of their own for as long as they take.
type serverFlags struct {
	configFlags
	dataDir string
	json    bool
}

func (f *serverFlags) register(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "read `FILE` where no server runs, such as config.yml")
	cmd.Flags().StringVar(&f.dataDir, "data", "", "use the store in `FOLDER` (that of --config, $SOCIABLE_STORAGE_PATH, ./data, or the running service's)")
	cmd.Flags().StringArrayVar(&f.upstreams, "upstream", nil, "where no server runs, add a registry or replace its URL: `NAME=URL`; repeatable")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// withServer calls fn with a client of the server that owns the store. Where none
// runs, it runs one that listens on the store's socket alone, so that what fn
// does is the same. Signals end fn's context.
func withServer(cmd *cobra.Command, f *serverFlags, fn func(ctx context.Context, c *adminClient) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the second one kills
	dir := f.dataDir
	if dir == "" && f.file == "" {
		dir = findDataDir(cmd)
	}
	if dir != "" {
		if found, err := withRunning(ctx, dir, fn); found || err != nil {
			return err
		}
		if dir == serviceDir && f.dataDir == "" && os.Getenv(envName("storage.path")) == "" {
			return fmt.Errorf("no server runs over %s: start the service, or name another folder with --data", dir)
		}
	}
	cfg, _, err := f.load(cmd)
	if err != nil {
		return err
	}
	if dir == "" {
		if found, err := withRunning(ctx, cfg.Storage.Path, fn); found || err != nil {
			return err
		}
	}
	if err := refuseLostRows(ctx, cfg.Storage.Path); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(cfg.Storage.Path, metaFile)); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(cmd.ErrOrStderr(), "no server runs and no store is in %s: a new one is made there, with %s\n", cfg.Storage.Path, cmp.Or(f.file, "the built-in configuration"))
	}
	return withOwnServer(ctx, cmd, cfg, fn)
}

// withRunning reports whether a server owns the store in dir.
func withRunning(ctx context.Context, dir string, fn func(context.Context, *adminClient) error) (bool, error) {
	path := filepath.Join(dir, adminSocket)
	dctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	probe, err := dialSocket(dctx, path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reach the running server: %w", err)
	}
	probe.Close()
	c := newAdminClient(path)
	return true, errors.Join(fn(ctx, c), c.Close())
}

func withOwnServer(ctx context.Context, cmd *cobra.Command, cfg *Config, fn func(context.Context, *adminClient) error) error {
	cfg.Listen, cfg.Admin.Listen, cfg.Log.Level = "", "", "error"
	cfg.Prewarm.Jobs = nil // the command has enough to do
	log := newLogger(cfg.Log, cmd.ErrOrStderr())
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- runServer(life, cfg, log) }()
	defer func() { end(nil) }()
	path := filepath.Join(cfg.Storage.Path, adminSocket)
	if err := awaitSocket(ctx, path, served); err != nil {
		end(nil)
		return err
	}
	c := newAdminClient(path)
	err := errors.Join(fn(ctx, c), c.Close())
	end(nil)
	return errors.Join(err, <-served)
}

// awaitSocket waits until the server answers, or has ended before it did.
func awaitSocket(ctx context.Context, path string, served chan error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var conn net.Conn
		_, err := os.Stat(path)
		if err == nil {
			conn, err = dialSocket(ctx, path)
		}
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-served:
			if err == nil {
				err = errors.New("the command's own server ended early")
			}
			return err
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx))
		}
	}
}
