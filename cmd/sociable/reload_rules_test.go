package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestReloadRules: changed rules are applied to what is stored, by the command
// and by the signal.
func TestReloadRules(t *testing.T) {
	up := newShelf(t)
	up.push(t, "acme/app:1.0", 1, "amd64")
	file := filepath.Join(t.TempDir(), "config.yml")
	config := func(rules string) {
		putFile(t, file, fmt.Sprintf("upstreams: {up: {url: %q}}\nindex: {rules: %s}\n", up.URL, rules))
	}
	config("[]")
	srv := startServer(t, "--config", file)
	must(t, "warm", "up/acme/app:1.0", "--platform", "linux/amd64", "--data", srv.dir)
	listed := func() (ds []digest.Digest) {
		for _, x := range decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir)) {
			if x.Index != "" {
				ds = append(ds, x.Index)
			}
		}
		return ds
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	await := func(what string, done func([]digest.Digest) bool) []digest.Digest {
		for {
			got := listed()
			if done(got) {
				return got
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: never, but %v", what, got)
			}
		}
	}
	if got := listed(); len(got) != 0 {
		t.Fatalf("without rules: %v", got)
	}
	config("[{repositories: [\"up/**\"], min_layer_size: 10000, span_size: 64KiB}]")
	if out := must(t, "config", "reload", "--data", srv.dir); strings.Contains(out, "restart") {
		t.Errorf("reload: %s", out)
	}
	first := await("a first rule", func(ds []digest.Digest) bool { return len(ds) == 1 })[0]

	config("[{repositories: [\"up/**\"], min_layer_size: 10000, span_size: 32KiB}]")
	if err := srv.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("other spans", func(ds []digest.Digest) bool {
		if len(ds) != 1 {
			t.Fatalf("%d are listed on the way: %v", len(ds), ds)
		}
		return ds[0] != first
	})
	config("[]")
	must(t, "config", "reload", "--data", srv.dir)
	await("no rule", func(ds []digest.Digest) bool { return len(ds) == 0 })
}
