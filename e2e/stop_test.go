package e2e

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestGracefulStop sends SIGTERM while a body is on its way to the client.
func TestGracefulStop(t *testing.T) {
	p := startProxy(t, link.Options{BytesPerSecond: 20e6})
	i := image(t, realimage.ImageSmall)
	layer := i.Layers[0]
	a, body, err := open(t.Context(), p.Addr, http.MethodGet, blobPath(i.Repo(), layer.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	verifier := layer.Digest.Verifier()
	if _, err := io.CopyN(verifier, body, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := p.Terminate(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "new connections are refused", func() bool {
		a, err := request(t.Context(), p.Addr, http.MethodGet, "/v2/", "Connection", "close")
		return err != nil || a.StatusCode == http.StatusServiceUnavailable
	})
	n, err := io.Copy(verifier, body)
	if err != nil || n+1<<20 != layer.Size || !verifier.Verified() {
		t.Errorf("the open response (%s) ended after %d of %d bytes: %v", a.Status, n+1<<20, layer.Size, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Errorf("the process ended with %v, want exit code 0", err)
	}
	p.start(t)
	p.link.Forget()
	if _, err := p.download(t.Context(), blobPath(i.Repo(), layer.Digest), layer.Digest); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if rs := p.link.Requests(link.Blob(layer.Digest)); len(rs) != 0 {
		t.Errorf("what was complete at the stop is fetched again: %v", rs)
	}
}

// TestAdmin looks at the second listener, the socket and what the process says.
func TestAdmin(t *testing.T) {
	p := startProxy(t, link.Options{})
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		a, err := request(t.Context(), p.Admin, http.MethodGet, path)
		if err != nil || a.StatusCode != http.StatusOK {
			t.Errorf("%s: %v, %v", path, a, err)
		}
		if a := p.get(t, path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the registry's listener: %s, want 404", path, a.Status)
		}
	}
	socket, err := os.Stat(filepath.Join(p.Data, "admin.sock"))
	if err != nil || socket.Mode()&fs.ModeSocket == 0 || socket.Mode().Perm() != 0o600 {
		t.Errorf("admin.sock: %v, %v; want a socket of mode 0600", socket, err)
	}
	if !strings.Contains(p.Log(), p.Addr) {
		t.Errorf("the log does not say where it listens:\n%s", p.Log())
	}
	if list, err := p.Indexes(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("index list of an empty store: %v, %v", list, err)
	}
	if a := p.get(t, "/v2/"); a.StatusCode != http.StatusOK {
		t.Errorf("/v2/: %s", a.Status)
	}
	second, err := harness.NewProxy(suite.Programs, p.Data, []string{upstream + "=" + p.link.URL()})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil {
		second.Kill()
		t.Error("a second process took the same store")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process says %v, want that the store is in use", err)
	}
}

// TestCommandsWithoutTheServer open the store themselves.
func TestCommandsWithoutTheServer(t *testing.T) {
	p := startProxy(t, link.Options{})
	i := image(t, realimage.ImageSmall)
	p.pull(t, i.Name)
	entry := p.awaitIndex(t, i.Repo(), i.Digest, 30*time.Second)
	running, err := p.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	stopped, err := p.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]harness.Index{running, stopped} {
		if len(list) != 1 || digest.Digest(list[0].Index) != entry.Digest {
			t.Errorf("index list: %+v, want %s", list, entry.Digest)
		}
	}
	if err := p.Purge(t.Context(), i.Layers[0].Digest.String()); err != nil {
		t.Errorf("purge without a server: %v", err)
	}
	p.start(t)
	p.link.Forget()
	if _, err := p.download(t.Context(), blobPath(i.Repo(), i.Layers[0].Digest), i.Layers[0].Digest); err != nil {
		t.Error(err)
	}
	if len(p.link.Requests(link.Blob(i.Layers[0].Digest))) == 0 {
		t.Error("a purged layer came from the store")
	}
}
