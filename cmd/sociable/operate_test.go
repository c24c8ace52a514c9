package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
	"github.com/sociable/sociable/web"
)

// TestOperator runs the scripts of an operator's commands against a store that
// no server has, and against a server.
func TestOperator(t *testing.T) {
	for name, live := range map[string]bool{"offline": false, "live": true} {
		t.Run(name, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir: "testdata/operator",
				Setup: func(env *testscript.Env) error {
					env.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command otherwise
					return nil
				},
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Cmds:                operatorCommands(t, live),
			})
		})
	}
}

// operatorCommands are what a script needs of a real store:
//
//	stock DIR         makes one with redis:7 of two layers, and app:1 of ghcr.io
//	                  that shares one of them; sets $REDIS, $APP, $LAYER, $SHARED
//	litter DIR        adds local/app:1, which was pushed 100 days ago with a blob that
//	                  nothing names, and an image that was pulled then; sets $HOSTED,
//	                  $NAMED, $LITTER, $OLD
//	pushing DIR       leaves an upload to local/app open, with 2000 bytes; sets $UPLOAD
//	untold DIR        leaves events that endpoints ci and mail were not told
//	server DIR        answers on DIR/admin.sock over it until the script ends, if live
//	rot DIR DIGEST    changes a byte of a blob
func operatorCommands(t *testing.T, live bool) map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"stock": func(ts *testscript.TestScript, _ bool, args []string) {
			dir := ts.MkAbs(args[0])
			ts.Check(os.MkdirAll(dir, 0o700))
			s, stop := storagetest.Open(t, dir, storage.Options{})
			defer stop()
			l, shared := storagetest.NewLayer(t, "layer", 300_000, 64<<10), storagetest.Bytes("shared", 200_000)
			l.Store(t, s)
			ts.Setenv("LAYER", l.Digest().String())
			ts.Setenv("SHARED", digest.FromBytes(shared).String())
			ts.Check(s.Put(context.Background(), storage.BlobRow{Digest: digest.FromBytes(shared), Kind: storage.KindBlob}, shared, nil))
			redis, err := putImage(s, oci.Repo{Upstream: "docker.io", Name: "library/redis"}, "7", l.Digest(), digest.FromBytes(shared))
			ts.Check(err)
			app, err := putImage(s, oci.Repo{Upstream: "ghcr.io", Name: "acme/app"}, "1", digest.FromBytes(shared))
			ts.Check(err)
			ts.Setenv("REDIS", redis.String())
			ts.Setenv("APP", app.String())
		},
		"litter": func(ts *testscript.TestScript, _ bool, args []string) {
			then := time.Now().Add(-100 * 24 * time.Hour)
			s, stop := storagetest.Open(t, ts.MkAbs(args[0]), storage.Options{Now: func() time.Time { return then }})
			defer stop()
			repo := oci.Repo{Upstream: "local", Name: "app"}
			for name, body := range map[string]string{"NAMED": "named by the manifest", "LITTER": "named by nothing"} {
				d := digest.FromString(body)
				ts.Setenv(name, d.String())
				ts.Check(s.Put(context.Background(), storage.BlobRow{Digest: d, Kind: storage.KindHosted}, []byte(body), func(tx storage.Tx) error {
					return tx.PutContent(storage.ContentRow{Repo: repo, Digest: d, Size: int64(len(body)), Pushed: then})
				}))
			}
			hosted, err := putImage(s, repo, "1", digest.FromString("named by the manifest"))
			ts.Check(err)
			ts.Check(s.Update(context.Background(), func(tx storage.Tx) error {
				return tx.PutContent(storage.ContentRow{Repo: repo, Digest: hosted, Manifest: true, Pushed: then})
			}))
			old, err := putImage(s, oci.Repo{Upstream: "ghcr.io", Name: "acme/old"}, "1")
			ts.Check(err)
			ts.Setenv("HOSTED", hosted.String())
			ts.Setenv("OLD", old.String())
		},
		"pushing": func(ts *testscript.TestScript, _ bool, args []string) {
			ts.Setenv("UPLOAD", leaveUpload(ts, t, ts.MkAbs(args[0])))
		},
		"untold": func(ts *testscript.TestScript, _ bool, args []string) { leaveEvents(ts, t, ts.MkAbs(args[0])) },
		"server": func(ts *testscript.TestScript, _ bool, args []string) {
			if live {
				ts.Defer(serveStore(t, ts, ts.MkAbs(args[0])))
			}
		},
		"rot": func(ts *testscript.TestScript, _ bool, args []string) {
			d := digest.Digest(args[1])
			file := filepath.Join(ts.MkAbs(args[0]), "blobs", "sha256", d.Encoded()[:2], d.Encoded())
			body, err := os.ReadFile(file)
			ts.Check(err)
			body[len(body)/2] ^= 1
			ts.Check(errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, body, 0o600)))
		},
	}
}

// serveStore answers for a real store, as a server does.
func serveStore(t *testing.T, ts *testscript.TestScript, dir string) (stop func()) {
	s, stopStore := storagetest.Open(t, dir, storage.Options{})
	l, err := net.Listen("unix", filepath.Join(dir, adminSocket))
	ts.Check(err)
	life, end := context.WithCancel(context.Background())
	srv := &http.Server{Handler: web.New(web.Options{
		Store: s, Gatherer: prometheus.NewRegistry(), Collector: storage.NewCollector(collectOptions(Default(), s, nil, nil)),
		Namespaces: func(ctx context.Context) ([]storage.NamespaceUse, error) { return web.NamespacesOf(ctx, s) },
	}).Local(life)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with ErrServerClosed
	}()
	return sync.OnceFunc(func() {
		end()
		srv.Close()
		<-done
		stopStore()
	})
}

// putImage files an image manifest as a pull does.
func putImage(s *storage.Store, repo oci.Repo, tag string, layers ...digest.Digest) (digest.Digest, error) {
	doc := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	doc.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: oci.EmptyDigest, Size: 2}
	for _, d := range layers {
		doc.Layers = append(doc.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d, Size: 1})
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return "", err
	}
	m, err := oci.ParseManifest(body, "")
	if err != nil {
		return "", err
	}
	d := digest.FromBytes(body)
	row := storage.BlobRow{Digest: d, Kind: storage.KindManifest}
	return d, s.Put(context.Background(), row, body, func(tx storage.Tx) error {
		errs := []error{
			tx.PutManifest(storage.ManifestRow{Digest: d, Size: int64(len(body)), Manifest: *m}),
			tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: d}), tx.PutRight(repo, d),
		}
		for _, l := range layers {
			errs = append(errs, tx.PutRight(repo, l))
		}
		return errors.Join(errs...)
	})
}

// upstream is a registry with one image of one layer, which counts what it is
// asked.
type fakeUpstream struct {
	*httptest.Server
	layer, manifest []byte
	asked           chan string // method and last path segment
}

func newFakeUpstream(t *testing.T) *fakeUpstream {
	u := &fakeUpstream{layer: storagetest.Bytes("layer", 100_000), asked: make(chan string, 100)}
	doc := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	doc.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: oci.EmptyDigest, Size: 2}
	doc.Layers = []v1.Descriptor{{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromBytes(u.layer), Size: int64(len(u.layer))}}
	var err error
	if u.manifest, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

func (u *fakeUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := path.Base(r.URL.Path)
	var body []byte
	switch what {
	case "1", digest.FromBytes(u.manifest).String():
		w.Header().Set("Content-Type", v1.MediaTypeImageManifest)
		body, what = u.manifest, "manifest"
	case digest.FromBytes(u.layer).String():
		body, what = u.layer, "layer"
	case oci.EmptyDigest.String():
		body, what = []byte("{}"), "config"
	default:
		if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
		return
	}
	u.asked <- r.Method + " " + what
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(body).String())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// take gives what was asked since the last time.
func (u *fakeUpstream) take() (asked []string) {
	for {
		select {
		case a := <-u.asked:
			asked = append(asked, a)
		default:
			return asked
		}
	}
}

// TestOperatorOfServer has every command act on a running server.
func TestOperatorOfServer(t *testing.T) {
	up := newFakeUpstream(t)
	s := startServer(t, "--upstream", "up="+up.URL)
	layer := digest.FromBytes(up.layer)
	command := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sociable", append(args, "--data", s.dir)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Errorf("%v: %v, want exit code %d: %s", args, err, want, out)
		}
		return string(out)
	}
	get := func(status int, what string, asked ...string) {
		t.Helper()
		resp, err := http.Get("http://" + s.addr + "/v2/up/acme/app/" + what)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || status == http.StatusOK && resp.Header.Get("Docker-Content-Digest") != digest.FromBytes(body).String() {
			t.Errorf("%s: %s, %d bytes, %v, want %d", what, resp.Status, len(body), err, status)
		}
		if got := up.take(); !slices.Equal(got, asked) {
			t.Errorf("%s asks the upstream for %q, want %q", what, got, asked)
		}
	}
	const tag = "manifests/1"
	blob := "blobs/" + layer.String()
	get(http.StatusOK, tag, "GET manifest")
	get(http.StatusOK, blob, "GET layer")
	get(http.StatusOK, tag)
	command(exitOK, "refresh", "acme/app:1")
	get(http.StatusOK, tag, "HEAD manifest")
	get(http.StatusOK, tag)

	command(exitOK, "pin", "up/acme/app:1")
	command(exitFailed, "purge", "acme/app:1")
	if out := command(exitOK, "pins"); !strings.Contains(out, "up/acme/app:1") {
		t.Errorf("pins: %s", out)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(command(exitOK, "fsck"), "2 blobs"); { // once the layer has its row
		if time.Now().After(end) {
			t.Fatal("the layer is not filed")
		}
	}
	file := filepath.Join(s.dir, "blobs", "sha256", layer.Encoded()[:2], layer.Encoded())
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, make([]byte, len(up.layer)), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out := command(exitProblems, "fsck"); !strings.Contains(out, "corrupt  "+layer.String()) {
		t.Errorf("fsck: %s", out)
	}
	get(http.StatusOK, blob, "GET layer")
	command(exitOK, "fsck", "--rate", "0")

	command(exitOK, "unpin", "acme/app:1")
	command(exitOK, "purge", "--block", "acme/app:1")
	get(http.StatusForbidden, tag, "GET manifest")
	command(exitOK, "purge", "--unblock", "acme/app:1")
	get(http.StatusOK, tag, "GET manifest")
	get(http.StatusOK, blob, "GET layer")

	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state := s.end(t); state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v, want exit status 0", state)
	}
	command(exitOK, "fsck", "--repair")
}
