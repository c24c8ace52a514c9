package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry serves the catalogue, read only: files by the kernel's own copy and
// nothing else, so that it is the limit of what a server can do here.
type registry struct{ *catalog }

// serveRegistry is the process "datapath registry": it serves on addr until it
// is killed, which the kernel does when the benchmark ends.
func serveRegistry(ctx context.Context, cache, addr string) error {
	c, err := openCatalog(cache)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: registry{c}, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (g registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		http.NotFound(w, r)
		return
	}
	if name == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}")) // a client that left is nobody's loss
		return
	}
	if i := strings.LastIndex(name, "/blobs/"); i >= 0 {
		g.serve(w, r, digest.Digest(name[i+len("/blobs/"):]), "application/octet-stream")
		return
	}
	if i := strings.LastIndex(name, "/manifests/"); i >= 0 {
		for _, im := range []*image{&g.Big, &g.Small, &g.Crowd, &g.Hello} {
			ref := name[i+len("/manifests/"):]
			if im.Repo == name[:i] && (im.Tag == ref || im.Manifest.Digest.String() == ref) {
				g.serve(w, r, im.Manifest.Digest, v1.MediaTypeImageManifest)
				return
			}
		}
	}
	http.NotFound(w, r)
}

func (g registry) serve(w http.ResponseWriter, r *http.Request, d digest.Digest, mediaType string) {
	if d.Validate() != nil {
		http.Error(w, fmt.Sprintf("no digest: %q", d), http.StatusBadRequest)
		return
	}
	f, err := os.Open(g.blobPath(d))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	h.Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
}
