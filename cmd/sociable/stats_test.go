package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/web"
)

// TestStats: what is estimated until somebody reads an image lazily, and measured
// then; through a server, and without one.
func TestStats(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	srv := startServer(t, "--config", s.config)
	data := []string{"--data", srv.dir}
	if _, errs, code := runSociable(t, "", append([]string{"stats", "up/acme/app:1"}, data...)...); code != 1 || !strings.Contains(errs, "no image here is meant by") {
		t.Errorf("before the pull: exit code %d, %s", code, errs)
	}
	must(t, append([]string{"index", "create", "up/acme/app:1", "--platform", "linux/amd64", "--min-layer-size", "10000"}, data...)...)
	before := decodeJSON[web.Stats](t, must(t, append([]string{"stats", "up/acme/app:1", "--json"}, data...)...))
	if len(before.Images) != 1 || before.Images[0].Measured || before.Images[0].Platform != "linux/amd64" || before.Totals.Saved == 0 || before.Images[0].Indexed != 1 {
		t.Fatalf("before it is read: %+v", before)
	}
	must(t, "doctor", "--platform", "linux/amd64", srv.addr+"/up/acme/app:1") // which counts as no start
	if x := decodeJSON[web.Stats](t, must(t, append([]string{"stats", "up/acme/app:1", "--json"}, data...)...)).Images[0]; x.Measured {
		t.Errorf("after doctor: %+v", x)
	}
	readLazily(t, srv.addr, before.Images[0].Manifest)
	if err := srv.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	srv.end(t)
	after := decodeJSON[web.Stats](t, must(t, append([]string{"stats", "--json"}, data...)...))
	if len(after.Images) != 1 {
		t.Fatalf("all images: %+v", after)
	}
	x := after.Images[0]
	if !x.Measured || x.Read <= 0 || x.Read >= x.Size || x.Saved != x.Size-x.Read {
		t.Errorf("after a span was read: %+v", x)
	}
	for args, want := range map[string]string{"": "1 of 1 image has an index, ", "up/acme/app:1": "of the image; "} {
		line := append([]string{"stats"}, data...)
		if args != "" {
			line = append(line, args)
		}
		if out := must(t, line...); !strings.Contains(out, want) {
			t.Errorf("stats %s: no %q in\n%s", args, want, out)
		}
	}
}

// readLazily asks for some bytes of each layer.
func readLazily(t *testing.T, addr string, manifest digest.Digest) {
	t.Helper()
	get := func(path, ranges string) []byte {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v2/up/acme/app/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", ranges)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode/100 != 2 {
			t.Fatalf("%s: %s %s, %v", path, resp.Status, body, err)
		}
		return body
	}
	for _, l := range decodeJSON[v1.Manifest](t, string(get("manifests/"+manifest.String(), ""))).Layers {
		get("blobs/"+l.Digest.String(), fmt.Sprintf("bytes=%d-%d", l.Size/2, l.Size*3/4))
	}
}
