package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestDiskFull has the medium refuse what is written, from the start, in the middle
// or when all that is missing is the blob's name, its mode or its sync: pulls go on as
// pass-through, with a metric and a line in the log, and when there is room again
// what comes is kept.
func TestDiskFull(t *testing.T) {
	for _, tt := range []struct {
		op    string
		after int32 // so many have gone well
	}{{"create", 0}, {"write", 0}, {"write", 8}, {"mkdir", 0}, {"rename", 0}, {"chmod", 0}, {"sync", 0}} {
		op := tt.op
		t.Run(fmt.Sprintf("%s %d", op, tt.after), func(t *testing.T) {
			g := newRegistry(t)
			dir := t.TempDir()
			faults := storagetest.NewFaults(dir)
			var log lines
			reg := prometheus.NewRegistry()
			s := newServerAt(t, dir, g, func(o *Options) {
				o.Logger, o.Registerer = slog.New(slog.NewJSONHandler(&log, nil)), reg
			}, func(o *storage.Options) {
				blobs, err := disk.NewFS(filepath.Join(dir, "full"), faults.FS(disk.OS{}))
				if err != nil {
					t.Fatal(err)
				}
				o.Blobs, o.Logger, o.Registerer = blobs, slog.New(slog.NewJSONHandler(&log, nil)), reg
			})
			layer := random(3<<20, 21)
			d := g.addBlob("a", layer)
			body := image(oci.EmptyDigest, d, len(layer))
			g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
			var well atomic.Int32
			faults.Hook(func(step storagetest.Step) error {
				if step.Op == op && well.Add(1) > tt.after {
					return syscall.ENOSPC
				}
				return nil
			})
			blob := "/v2/up/a/blobs/" + d.String()
			pull := func() {
				t.Helper()
				if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1"); a.status != http.StatusOK || string(a.body) != body {
					t.Errorf("manifest: %d %s", a.status, a.body)
				}
				if a := s.do(t, http.MethodGet, blob, "Range", "bytes=1000000-1999999"); a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[1_000_000:2_000_000]) {
					t.Errorf("range: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
				if a := s.do(t, http.MethodGet, blob); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
					t.Errorf("blob: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
			}
			logged := func(text string) int {
				log.mu.Lock()
				defer log.mu.Unlock()
				return strings.Count(log.buf.String(), text)
			}
			pull()
			if op == "sync" { // it is served from what is not durable, and forgotten when that can't be
				waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return errors.Is(err, storage.ErrNotFound) })
				if n := counter(t, reg, "sociable_storage_errors_total", "sync"); n == 0 || logged("blob could not be synced, forgotten") == 0 {
					t.Errorf("that it was lost is counted %v times, and not logged", n)
				}
			} else {
				waitFor(t, func() bool { return logged("passed on without being kept") > 0 })      // it may come behind the answer
				if n := testutil.ToFloat64(s.p.metrics.passed); n < 2 && tt.after == 0 || n == 0 { // manifest and blob
					t.Errorf("%v were counted as passed on", n)
				}
				if told := logged("passed on without being kept"); told != 1 {
					t.Errorf("the log says %d times that something was passed on, want once", told)
				}
			}
			faults.Hook(nil)
			waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
			pull()
			waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
		})
	}
}

// TestFullOfWhatStays fills the store with what is hosted, or pinned: pushes are
// refused with the limit's name, and pulls are passed on without being kept.
func TestFullOfWhatStays(t *testing.T) {
	layer := random(800<<10, 2)
	for name, fill := range map[string]func(*testing.T, *registry, *server) string{
		"hosted": func(t *testing.T, _ *registry, s *server) string {
			return "/v2/local/a/blobs/" + s.pushBlob(t, "local/a", layer).String() // what is cached makes room
		},
		"pinned": func(t *testing.T, g *registry, s *server) string {
			g.addBlob("b", oci.EmptyJSON)
			d := g.addBlob("b", layer)
			m := g.addManifest("b", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(layer)))
			for _, path := range []string{"manifests/v1", "blobs/" + oci.EmptyDigest.String(), "blobs/" + d.String()} {
				if a := s.do(t, http.MethodGet, "/v2/up/b/"+path); a.status != http.StatusOK {
					t.Fatal(path, a.status)
				}
			}
			if _, err := s.store.Pin(t.Context(), "up/b:v1", m); err != nil {
				t.Fatal(err)
			}
			return "/v2/up/b/blobs/" + d.String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServerAt(t, t.TempDir(), g, func(o *Options) {
				o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
			}, func(o *storage.Options) { o.MaxBytes = 1 << 20 })
			pulled := random(300<<10, 1)
			d := g.addBlob("a", pulled)
			pull := func() {
				t.Helper()
				if a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String()); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, pulled) {
					t.Fatalf("pull: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
			}
			pull()
			if err := s.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			stays := fill(t, g, s)
			if err := s.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}

			over := random(300<<10, 3)
			a := s.send(t, http.MethodPost, "/v2/local/a/blobs/uploads/?digest="+digest.FromBytes(over).String(), bytes.NewReader(over))
			wantCode(t, "no room", a, http.StatusForbidden, "DENIED")
			if !bytes.Contains(a.body, []byte("storage.max_bytes (1.0 MiB)")) {
				t.Errorf("the refusal does not name the limit: %s", a.body)
			}
			pull()
			passed := testutil.ToFloat64(s.p.metrics.passed)
			if pull(); testutil.ToFloat64(s.p.metrics.passed) == passed {
				t.Error("what was pulled twice was not passed on the second time")
			}
			if _, err := s.store.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("what was pulled is kept, or %v", err)
			}
			if a := s.do(t, http.MethodHead, stays); a.status != http.StatusOK {
				t.Errorf("what stays: %d", a.status)
			}
			if n := s.store.Usage().Total(); n > 1<<20 {
				t.Errorf("the store has %d bytes", n)
			}
		})
	}
}

// counter gives the value of a counter with one label.
func counter(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %s", name, label)
	return 0
}
