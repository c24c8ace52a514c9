package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// layoutRegistry serves the images of indexer/testdata, each by any tag.
func layoutRegistry(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/") // NAME/manifests|blobs/REFERENCE
		if len(parts) != 3 {
			if r.URL.Path != "/v2/" {
				http.NotFound(w, r)
			}
			return
		}
		l := layout{dir: filepath.Join(images, path.Base(parts[0]), "before")}
		idx, err := l.index()
		if err != nil {
			http.NotFound(w, r)
			return
		}
		d, err := oci.ParseDigest(parts[2])
		if err != nil {
			d = idx.Manifests[0].Digest
		}
		if parts[1] == "manifests" {
			var doc struct{ MediaType string }
			body, err := os.ReadFile(l.blob(d))
			if err != nil || json.Unmarshal(body, &doc) != nil || doc.MediaType == "" {
				doc.MediaType = v1.MediaTypeImageManifest
			}
			w.Header().Set("Content-Type", doc.MediaType)
		}
		w.Header().Set("Docker-Content-Digest", d.String())
		http.ServeFile(w, r, l.blob(d))
	}))
	t.Cleanup(srv.Close)
	return srv
}

// program runs the real command.
func program(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sociable", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says more
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
		t.Errorf("%v: %v, want exit code %d: %s%s", args, cmd.ProcessState, want, &out, &errs)
	}
	if want != exitOK && strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("%v: want one line, got %q", args, &errs)
	}
	return out.String(), errs.String()
}

// TestIndexCreateInStore: a server pulls the image that it has not, and makes the
// index that `soci create` made; without one, what is in the store is indexed.
func TestIndexCreateInStore(t *testing.T) {
	s := startServer(t, "--upstream", "up="+layoutRegistry(t).URL)
	create := func(args ...string) (list []IndexInfo) {
		t.Helper()
		out, _ := program(t, exitOK, append([]string{"index", "create", "--json", "--data", s.dir}, args...)...)
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		return list
	}
	want := func(list []IndexInfo, indexes ...string) {
		t.Helper()
		if len(list) != len(indexes) {
			t.Fatalf("%d images, want %d: %+v", len(list), len(indexes), list)
		}
		for i, x := range list {
			if x.Index.String() != indexes[i] {
				t.Errorf("index of %s is %s, want %s", x.Manifest, x.Index, indexes[i])
			}
		}
	}
	small := []string{"--min-layer-size", "20000", "--span-size", "64KiB"}
	list := create(append(small, "up/single:1")...)
	want(list, "sha256:084c29d5674e7f14ec6318704edcfa6a231409b464af45ab5d2c03732e715d1a")
	var why []string
	for _, l := range list[0].Layers {
		if l.State == storage.LayerSkipped {
			why = append(why, strings.SplitN(l.Reason, ":", 2)[0])
		}
	}
	if strings.Join(why, " ") != "too-small zstd" {
		t.Errorf("skipped for %q", why)
	}
	want(create(append(small, s.addr+"/up/single:1")...), list[0].Index.String()) // again
	want(create(append(small, "up/buildkit:1", "--all-platforms")...),
		"sha256:94cef74606a63645068e6728e977c1e26c90ebeab7eb3056df7d2878db68f269",
		"sha256:1af232defc61ade75851433090bc9d6524d8cd3b0cb9a055c4bd0079027beff4",
		"sha256:610727dbeb124d7f9f3d4c298293058277123c4268de9b10e946fa207f68e1c0")
	info := func(args ...string) string {
		out, _ := program(t, exitOK, append([]string{"index", "info", "--data", s.dir, "up/buildkit:1"}, args...)...)
		return out
	}
	if out := info(); strings.Count(out, "\nplatform ") != 3 || strings.Count(out, "\nLAYER ") != 3 {
		t.Errorf("index info of three platforms:\n%s", out)
	}
	want(decodeJSON[[]IndexInfo](t, info("--json", "-p", "linux/amd64", "-p", "linux/arm64")),
		"sha256:94cef74606a63645068e6728e977c1e26c90ebeab7eb3056df7d2878db68f269", "sha256:1af232defc61ade75851433090bc9d6524d8cd3b0cb9a055c4bd0079027beff4")
	if x := decodeJSON[IndexInfo](t, info("--json", "-p", "linux/arm/v7")); x.Platform != "linux/arm/v7" || len(x.Layers) == 0 {
		t.Errorf("index info of one platform: %+v", x)
	}
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"up/none:1"}, "is not known in up/none", exitFailed},
		{[]string{"other.example/app:1"}, `no upstream "other.example" is configured here`, exitFailed},
		{[]string{"up/buildkit:1", "-p", "linux/s390x"}, "has no image for linux/s390x", exitFailed},
		{[]string{"up/single:1", "-p", "linux/s390x"}, "has no image for linux/s390x: its one is for linux/amd64", exitFailed},
		{[]string{"up/tiny:1", "-p", "linux/s390x"}, "has no image for linux/s390x: its one is for linux/amd64", exitFailed}, // is not here before
		{[]string{"up/buildkit:1", "-p", "x"}, "is not a platform", exitUsage},
		{[]string{"up/single:1"}, "no layer of sha256:", exitFailed}, // all are below 10 MiB
		{[]string{"up/single:1", "-o", "x"}, "--output goes with an OCI layout", exitUsage},
		{[]string{"up/single:1", "--span-size", "0"}, "--span-size", exitUsage},
		{[]string{digest.FromString("none").String()}, "no image here is meant by", exitFailed},
	} {
		if _, errs := program(t, tc.code, append([]string{"index", "create", "--data", s.dir}, tc.args...)...); !strings.Contains(errs, tc.want) {
			t.Errorf("%v: %q, want %q", tc.args, errs, tc.want)
		}
	}
	checkStoreCommands(t, s.dir, create(append(small, "up/single:1")...)[0])

	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.end(t)
	want(create("--min-layer-size", "0", "up/single:1"), "sha256:bd3e7e9972578ebc2bc214dc6c567a220ce76f0cf565f0709d01e327d29ce9e1")
	checkStoreCommands(t, s.dir, create(append(small, "up/single:1")...)[0])
	_, errs := program(t, exitFailed, "index", "create", "--data", s.dir, "-p", "linux/s390x", "up/single:1")
	if !strings.Contains(errs, "has no image for linux/s390x: its one is for linux/amd64") {
		t.Errorf("another platform, without a server: %q", errs)
	}
	layer := list[0].Layers[0].Digest
	program(t, exitOK, "purge", "--data", s.dir, layer.String())
	_, errs = program(t, exitFailed, "index", "create", "--data", s.dir, "--min-layer-size", "0", "--span-size", "32KiB", "up/single:1")
	if !strings.Contains(errs, layer.String()+": not in the store: a running server fetches them") {
		t.Errorf("a layer that is not here: %q", errs)
	}
}

// checkStoreCommands runs what looks into a store, be there a server or not.
func checkStoreCommands(t *testing.T, dir string, x IndexInfo) {
	t.Helper()
	at := []string{"--data", dir}
	var l LayerInfo
	for _, l = range x.Layers {
		if l.ZTOC != "" {
			break
		}
	}
	out, _ := program(t, exitOK, append([]string{"ztoc", "list"}, at...)...)
	if !strings.Contains(out, l.ZTOC.String()) || !strings.Contains(out, l.Digest.String()) {
		t.Errorf("ztoc list:\n%s", out)
	}
	out, _ = program(t, exitOK, append([]string{"ztoc", "info", l.ZTOC.String()}, at...)...)
	var info struct {
		Files []struct{ Filename, Type string } `json:"files"`
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Files) == 0 {
		t.Fatalf("ztoc info: %v\n%s", err, out)
	}
	for _, f := range info.Files {
		if f.Type == "reg" {
			program(t, exitOK, append([]string{"ztoc", "get-file", l.ZTOC.String(), f.Filename, "-o", filepath.Join(t.TempDir(), "f")}, at...)...)
			break
		}
	}
	hex := l.Digest.Encoded()
	program(t, exitOK, append([]string{"ztoc", "verify", filepath.Join(dir, "blobs/sha256", hex[:2], hex), l.ZTOC.String()}, at...)...)
	out, _ = program(t, exitOK, append([]string{"index", "list"}, at...)...)
	lines := strings.Split(out, "\n")
	if strings.Join(strings.Fields(lines[0]), " ") != "DIGEST SIZE IMAGE REF PLATFORM MEDIA TYPE MANIFEST VERSION CREATED" {
		t.Errorf("index list:\n%s", out)
	}
	if !strings.Contains(out, x.Index.String()) || !strings.Contains(out, "up/single:1") || !strings.Contains(out, v1.MediaTypeImageManifest) {
		t.Errorf("index list:\n%s", out)
	}
	out, _ = program(t, exitOK, append([]string{"index", "info", x.Index.String()}, at...)...)
	var m v1.Manifest
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Subject == nil || m.Subject.Digest != x.Manifest {
		t.Errorf("index info of a SOCI index: %v\n%s", err, out)
	}
	if out, _ = program(t, exitOK, append([]string{"index", "list", "-q", "--ref", "up/single:1"}, at...)...); out != x.Index.String()+"\n" {
		t.Errorf("index list -q: %q", out)
	}
}
