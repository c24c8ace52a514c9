package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

// TestOpenStoreLostRows has a server refuse a folder with blobs of which the rows
// are gone, and no other.
func TestOpenStoreLostRows(t *testing.T) {
	sha256, sha512 := digest.FromString("a blob"), digest.SHA512.FromString("a blob")
	blob := func(d digest.Digest) string {
		return filepath.Join("blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
	}
	folders := []string{"blobs/sha256/", "blobs/sha512/", "partial/", "tmp/"}
	for name, tt := range map[string]struct {
		has     []string // "/" at the end: a folder; else a file with a byte
		rows    string   // "": no file; else "empty", or "no row"
		refused string
	}{
		"a new folder":                     {},
		"killed before the rows were made": {rows: "empty"},
		"killed before the first row":      {has: folders, rows: "no row"},
		"folders, and rows removed":        {has: append(folders, "blobs/sha256/ab/")},
		"folders, and rows empty":          {has: append(folders, "blobs/sha256/ab/"), rows: "empty"},
		"partials and uploads":             {has: []string{"partial/" + sha256.String(), "partial/upload-1"}},
		"what is none of ours":             {has: []string{"blobs/sha256/lost+found/x"}, rows: "empty"},
		"killed before a blob's row":       {has: []string{blob(sha256)}, rows: "no row"},
		"a blob, no rows":                  {has: []string{blob(sha256)}, refused: "are lost"},
		"a blob, rows empty":               {has: []string{blob(sha256)}, rows: "empty", refused: "are lost"},
		"a blob of the other algorithm":    {has: []string{blob(sha512)}, refused: "are lost"},
		"nobody can say":                   {has: []string{"blobs/sha256"}, refused: "look for blobs"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			cfg.Storage.Path = t.TempDir()
			for _, path := range tt.has {
				putInStore(t, filepath.Join(cfg.Storage.Path, path), strings.HasSuffix(path, "/"))
			}
			putRows(t, filepath.Join(cfg.Storage.Path, metaFile), tt.rows)
			s, err := openStore(t.Context(), cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), &eviction{},
				func(m storage.Meta) storage.Meta { return m })
			if err == nil {
				err = s.close()
			}
			if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
				t.Errorf("open: %v, want %q", err, tt.refused)
			}
			if st, err := os.Stat(filepath.Join(cfg.Storage.Path, metaFile)); tt.refused != "" && err == nil && st.Size() > 0 {
				t.Error("rows were made: the next start would go on with them")
			}
		})
	}
}

// TestLostRowsRefused has the commands that run a server say in one line what to do.
func TestLostRowsRefused(t *testing.T) {
	d := digest.FromString("a blob")
	for name, args := range map[string][]string{
		"serve": {"serve", "--listen", "127.0.0.1:0"},
		"warm":  {"warm", "--upstream", "up=http://127.0.0.1:1", "up/acme/app:1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			blob := filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
			putInStore(t, blob, false)
			ctx, stop := context.WithTimeout(t.Context(), time.Minute) // one that serves would do so for ever
			defer stop()
			cmd := exec.CommandContext(ctx, "sociable", append(args, "--data", dir)...)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != exitFailed {
				t.Errorf("%v, want exit code %d", err, exitFailed)
			}
			want := "sociable: the rows of the store in " + dir + " are lost, its blobs are there: restore meta.db from a snapshot; or run sociable fsck --repair --data " + dir +
				", which finds out from the blobs what they are, and push again what was pushed here; or move the folder away, to begin empty\n"
			if string(out) != want {
				t.Errorf("says %q, want %q", out, want)
			}
			if _, err := os.Stat(blob); err != nil {
				t.Error(err)
			}
		})
	}
}

func putInStore(t *testing.T, path string, folder bool) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if folder {
		err = errors.Join(err, os.MkdirAll(path, 0o700))
	} else {
		err = errors.Join(err, os.WriteFile(path, []byte("x"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func putRows(t *testing.T, path, rows string) {
	t.Helper()
	var err error
	switch rows {
	case "empty":
		err = os.WriteFile(path, nil, 0o600)
	case "no row":
		var db *bolt.DB
		if db, err = bolt.Open(path, bolt.Options{NoSync: true}); err == nil {
			err = db.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
