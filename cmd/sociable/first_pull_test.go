package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestFirstPullHolds: by first_pull: build, nodes that ask for the index of an
// image that nobody has pulled are held from the first request on, however long
// the upstream takes for its first answer about a layer, and get the index.
func TestFirstPullHolds(t *testing.T) {
	s := newShelf(t)
	idx, err := s.push(t, "acme/app:1", 1, "amd64").IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{}) // the first requests were
	registry := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			<-answered
		}
		registry.ServeHTTP(w, r)
	})
	text := string(readFile(t, s.config)) + "referrers: {first_pull: build, wait: 300ms}\n"
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	manifest := idx.Manifests[0].Digest.String()
	get := func(path string) (int, []byte) {
		resp, err := http.Get("http://" + srv.addr + "/v2/up/acme/app/" + path)
		if err != nil {
			t.Error(err)
			return 0, nil
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, body
	}
	if status, body := get("manifests/" + manifest); status != http.StatusOK {
		t.Fatalf("manifest: %d %s", status, body)
	}
	query := "referrers/" + manifest + "?artifactType=" + url.QueryEscape(oci.MediaTypeSOCIIndexV1)
	var wg sync.WaitGroup
	for node := range 8 {
		wg.Go(func() {
			if status, body := get(query); status != http.StatusServiceUnavailable {
				t.Errorf("node %d: %d %s", node, status, body)
			}
		})
	}
	wg.Wait()
	close(answered)
	await(t, "the index", func() bool {
		status, body := get(query)
		var list v1.Index
		if status == http.StatusServiceUnavailable {
			return false
		}
		if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK || len(list.Manifests) != 1 {
			t.Fatalf("%d %s", status, body)
		}
		return true
	})
}
