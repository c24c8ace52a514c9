package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestConvertedImageCrossesTheGap: a converted image has the same digest where its
// source came in a bundle, whether its starts were known when it was first made or
// are since, and what was learnt being forgotten changes nothing.
func TestConvertedImageCrossesTheGap(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	s.push(t, "acme/late:1", 2, "amd64", "arm64")
	config := func(name, lateRule string) string {
		file := filepath.Join(t.TempDir(), name)
		putFile(t, file, fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"\"}\nupstreams: {up: {url: %q}}\n"+
			"index: {rules: [%s {repositories: [\"**\"], min_layer_size: 10000, span_size: 64KiB}]}\n", s.URL, lateRule))
		return file
	}
	tag := func(srv *server, name string) (digest, body string) {
		resp, err := http.Get("http://" + srv.addr + "/v2/up/acme/" + name + "/manifests/1-soci")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			return "", string(text)
		}
		return resp.Header.Get("Docker-Content-Digest"), string(text)
	}
	// converted waits until a tag is converted for both platforms.
	converted := func(srv *server, name string) (digest string) {
		await(t, name+":1-soci", func() bool {
			d, body := tag(srv, name)
			digest = d
			return d != "" && strings.Count(body, "com.amazon.soci.image-manifest-digest") == 2
		})
		return digest
	}
	images := []string{"up/acme/app:1", "up/acme/late:1", "--platform", "all"}

	srv := startServer(t, "--config", config("first.yml", "{repositories: [up/acme/late], publish: v1, min_layer_size: 10000, span_size: 64KiB},"))
	must(t, append([]string{"warm", "--data", srv.dir}, images...)...)
	first := converted(srv, "app")
	if d, _ := tag(srv, "late"); d != "" {
		t.Fatalf("up/acme/late:1-soci is %s before a rule says so", d)
	}
	srv.stop(t)
	teach(t, srv.dir)

	outside := startServer(t, "--config", config("second.yml", ""), "--data", srv.dir)
	late := converted(outside, "late")
	if d := converted(outside, "app"); d != first {
		t.Errorf("with starts that were learnt since: %s, want %s", d, first)
	}
	bundle := filepath.Join(t.TempDir(), "b.tar")
	must(t, append([]string{"export", "-o", bundle, "--data", srv.dir}, images...)...)

	inside := startServer(t, "--config", config("third.yml", ""))
	must(t, "import", bundle, "--data", inside.dir)
	if d := converted(inside, "app"); d != first {
		t.Errorf("app imported: %s, want %s", d, first)
	}
	if d := converted(inside, "late"); d != late {
		t.Errorf("late imported: %s, want %s", d, late)
	}
	alone := startServer(t, "--config", config("fourth.yml", ""))
	must(t, append([]string{"warm", "--data", alone.dir}, images...)...)
	if d := converted(alone, "late"); d == late {
		t.Errorf("late is %s where nothing is known of its starts, too", d)
	}

	must(t, "learn", "reset", "up/acme/late:1", "--data", inside.dir)
	must(t, "index", "rm", "up/acme/late:1", "--data", inside.dir)
	await(t, "it is withdrawn", func() bool { d, _ := tag(inside, "late"); return d == "" })
	must(t, "index", "create", "up/acme/late:1", "--platform", "linux/amd64", "--platform", "linux/arm64", "--data", inside.dir)
	if d := converted(inside, "late"); d != late {
		t.Errorf("late forgotten, withdrawn and asked for again: %s, want %s", d, late)
	}
}
