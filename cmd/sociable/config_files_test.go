package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestUpstreamFiles: all files that an upstream's keys name are looked at.
func TestUpstreamFiles(t *testing.T) {
	dir := t.TempDir()
	putFile(t, filepath.Join(dir, "docker.json"), "{")
	file := filepath.Join(dir, "c.yml")
	putFile(t, file, "upstreams:\n  a.io:\n    keychain: docker\n    docker_config: "+filepath.Join(dir, "docker.json")+
		"\n    ca_file: /none/ca\n    client_cert_file: /none/crt\n    client_key_file: /none/key\n")
	_, _, err := load(sources{File: file})
	if err == nil {
		t.Fatal("nothing is wrong with it")
	}
	for _, want := range []string{file + ":4: upstreams.a.io.docker_config: ", file + ":5: upstreams.a.io.ca_file: ", file + ":6: upstreams.a.io.client_cert_file: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

// TestReloadChangedBack: what is as it was at the start waits for no restart.
func TestReloadChangedBack(t *testing.T) {
	cfg := func(workers string) *Config {
		c, _, err := load(sources{Environ: []string{"SOCIABLE_INDEX_WORKERS=" + workers}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	l, err := newLive(cfg("1"), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range l.now.Load().clients {
		defer c.Close()
	}
	for _, tt := range []struct {
		workers string
		want    []string
	}{{"2", []string{"index.workers"}}, {"2", []string{"index.workers"}}, {"1", nil}} {
		got := restartFor(l.began, cfg(tt.workers))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.workers, diff)
		}
		l.cfg = cfg(tt.workers)
	}
}

// TestTryCommand: what is printed to try works over TLS, too.
func TestTryCommand(t *testing.T) {
	secure := &Config{TLS: TLSConfig{CertFile: "x"}}
	for _, tt := range []struct {
		c          *Config
		addr, want string
	}{
		{&Config{}, "a:1", "curl http://a:1/v2/"},
		{secure, "a:1", "curl https://a:1/v2/"},
		{secure, "192.0.2.1:5", "curl https://192.0.2.1:5/v2/"},
		{&Config{}, "[::]:5000", "curl http://127.0.0.1:5000/v2/"},
		{&Config{}, "0.0.0.0:5000", "curl http://127.0.0.1:5000/v2/"},
	} {
		if got := tryCommand(tt.c, tt.addr); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestIndexNames: an image is found by any of its names.
func TestIndexNames(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	s.push(t, "acme/copy:2", 1, "amd64")
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/app:1", "up/acme/copy:2", "-p", "linux/amd64", "--data", srv.dir)
	for _, name := range []string{"up/acme/app:1", "up/acme/copy:2", "up/acme/copy"} {
		if out := must(t, "index", "info", name, "--data", srv.dir); !strings.Contains(out, "1 of 2 indexed") {
			t.Errorf("%s:\n%s", name, out)
		}
	}
	if _, errs, code := runSociable(t, "", "index", "info", "up/acme/copy:1", "--data", srv.dir); code == 0 {
		t.Errorf("another's tag: %s", errs)
	}
	out := must(t, "index", "list", "--all", "--data", srv.dir)
	for _, want := range []string{"up/acme/app ", "up/acme/copy "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
