package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// TestRepairKilled takes a copy of the store, which is what a kill leaves, at each
// step of a repair of lost rows: no server starts over it before all blobs are
// filed, and the next repair files them all.
func TestRepairKilled(t *testing.T) {
	for name, rows := range map[string]string{"gone": "", "empty": "empty"} {
		t.Run(name, func(t *testing.T) {
			dir := withoutRows(t, rows)
			killed := map[string]string{}
			kill := func(at string) {
				killed[at] = filepath.Join(t.TempDir(), "data")
				if err := os.CopyFS(killed[at], os.DirFS(dir)); err != nil {
					t.Error(err)
				}
			}
			err := repair(t.Context(), dir, func(api adminAPI) error {
				kill("opened")
				_, err := api.Check(t.Context(), web.CheckRequest{Repair: true}, func(e web.CheckEvent) {
					if e.Problem != nil {
						kill(e.Problem.Digest.String())
					}
				})
				kept := filepath.Join(t.TempDir(), "data")
				wantRestored(t, kept, errors.Join(err, os.CopyFS(kept, os.DirFS(dir))))
				return err
			})
			if found, ok := errors.AsType[exitError](err); !ok || found.code != exitMended {
				t.Errorf("the repair ended with %v", err)
			}
			wantRestored(t, dir, nil)
			if len(killed) != 1+len(lostBlobs)+1 {
				t.Errorf("killed at %d steps, want one for each of %d blobs, one for the wrong one, and one before", len(killed), len(lostBlobs))
			}
			for at, dir := range killed {
				if err := startOver(dir); err == nil || !strings.Contains(err.Error(), "are lost") {
					t.Errorf("killed at %s: the server says %v", at, err)
				}
				err := repair(t.Context(), dir, func(api adminAPI) error { return checkAll(t.Context(), api) })
				if _, ok := errors.AsType[exitError](err); !ok {
					t.Errorf("killed at %s: the next repair ended with %v", at, err)
				}
				wantRestored(t, dir, nil)
			}
		})
	}
}

// TestRepairStopped has a repair of lost rows that is interrupted, or does not come to its
// end, leave the store refused, and say what to do.
func TestRepairStopped(t *testing.T) {
	dir := withoutRows(t, "")
	ctx, stop := context.WithCancel(t.Context())
	err := repair(t.Context(), dir, func(api adminAPI) error {
		_, err := api.Check(ctx, web.CheckRequest{Repair: true}, func(web.CheckEvent) { stop() })
		return err
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "are not restored: run sociable fsck --repair again") {
		t.Errorf("stopped: %v", err)
	}
	if err := startOver(dir); err == nil || !strings.Contains(err.Error(), "are lost") {
		t.Errorf("the server says %v", err)
	}
}

// TestRepairOnce has nobody use the rows that a repair files before it is over.
func TestRepairOnce(t *testing.T) {
	dir := withoutRows(t, "empty")
	api, err := openRestoring(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openRestoring(dir); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("a second repair: %v, want %v", err, storage.ErrLocked)
	}
	if err := checkAll(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	if err := startOver(dir); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("a server, before the repair is over: %v, want %v", err, storage.ErrLocked)
	}
	if err := api.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openRestoring(dir); err == nil || !strings.Contains(err.Error(), "has rows again") {
		t.Errorf("a repair that began before the other one ended: %v", err)
	}
	wantRestored(t, dir, nil)
}

// TestRestoredFromSnapshot has a meta.db that came back while its blobs were filed, or
// after a repair of them was killed, stay as it is.
func TestRestoredFromSnapshot(t *testing.T) {
	dir := withoutRows(t, "")
	rows := filepath.Join(dir, metaFile)
	err := repair(t.Context(), dir, func(api adminAPI) error {
		putRows(t, rows, "no row")
		return checkAll(t.Context(), api)
	})
	if err == nil || !strings.Contains(err.Error(), "meta.db has come back") {
		t.Errorf("the repair ended with %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, restoredFile)); err != nil {
		t.Errorf("what was filed: %v", err)
	}
	if err := repair(t.Context(), dir, func(api adminAPI) error { return checkAll(t.Context(), api) }); err != nil {
		t.Error(err)
	}
	wantRestored(t, dir, nil)
}

var lostBlobs = []string{"a", "b", "c", `{"schemaVersion":2}`}

// withoutRows is a store of lostBlobs, and a wrong one, whose rows are lost.
func withoutRows(t *testing.T, rows string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	for _, body := range append([]string{"what is put there is another"}, lostBlobs...) {
		path := blobPath(dir, body)
		putInStore(t, path, false)
		if body != "what is put there is another" {
			if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	putRows(t, filepath.Join(dir, metaFile), rows)
	return dir
}

func blobPath(dir, body string) string {
	hex := digest.FromString(body).Encoded()
	return filepath.Join(dir, "blobs", "sha256", hex[:2], hex)
}

func checkAll(ctx context.Context, api adminAPI) error {
	_, err := api.Check(ctx, web.CheckRequest{Repair: true}, func(web.CheckEvent) {})
	return err
}

// startOver opens the store in dir as a server does, and closes it.
func startOver(dir string) error {
	cfg := Default()
	cfg.Storage.Path = dir
	s, err := openStore(context.Background(), cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), &eviction{},
		func(m storage.Meta) storage.Meta { return m })
	if err != nil {
		return err
	}
	return s.close()
}

// wantRestored has a server start over the store in dir, which has a row for each
// of lostBlobs and nothing of a repair, if err, of what came before, is nil.
func wantRestored(t *testing.T, dir string, err error) {
	t.Helper()
	if err := errors.Join(err, startOver(dir)); err != nil {
		t.Error(err)
		return
	}
	if _, err := os.Stat(filepath.Join(dir, restoredFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want none", restoredFile, err)
	}
	err = withStore(t.Context(), dir, func(api adminAPI) error {
		report, err := api.Check(t.Context(), web.CheckRequest{}, func(web.CheckEvent) {})
		if report.Problems != 0 || report.Leftovers != 0 || report.Blobs != int64(len(lostBlobs)) {
			t.Errorf("checked: %+v, want %d blobs and nothing else", report, len(lostBlobs))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
