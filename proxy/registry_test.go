package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry is an upstream over loopback that counts what it is asked.
type registry struct {
	*httptest.Server
	mu        sync.Mutex
	blobs     map[string][]byte // repository@digest
	manifests map[string][]byte // repository@tag or repository@digest
	types     map[string]string // by digest
	asked     []string          // "GET blobs 0-99"
	sent      int64
	// serve, when set, may answer a blob request itself.
	serve func(w http.ResponseWriter, r *http.Request, body []byte) bool
}

func newRegistry(t testing.TB) *registry {
	t.Helper()
	g := &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}, types: map[string]string{}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		return
	}
	i := strings.LastIndex(path, "/")
	repo, kind, _ := cutLast(path[:i])
	key := repo + "@" + path[i+1:]
	g.mu.Lock()
	g.asked = append(g.asked, strings.TrimSpace(r.Method+" "+kind+" "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")))
	blob, okB := g.blobs[key]
	manifest, okM := g.manifests[key]
	serve := g.serve
	g.mu.Unlock()
	switch {
	case kind == "blobs" && okB:
		if serve != nil && serve(w, r, blob) {
			return
		}
		w.Header().Set("Docker-Content-Digest", path[i+1:])
		http.ServeContent(&counted{w, g}, r, "", time.Time{}, bytes.NewReader(blob))
	case kind == "manifests" && okM:
		d := digest.FromBytes(manifest)
		w.Header().Set("Content-Type", g.types[d.String()])
		w.Header().Set("Docker-Content-Digest", d.String())
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(manifest))
	default:
		http.Error(w, `{"errors":[{"code":"NOT_FOUND"}]}`, http.StatusNotFound)
	}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndex(s, "/")
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// counted counts body bytes.
type counted struct {
	http.ResponseWriter
	g *registry
}

func (c *counted) Write(p []byte) (int, error) {
	c.add(len(p)) // before a client can have seen it
	n, err := c.ResponseWriter.Write(p)
	c.add(n - len(p))
	return n, err
}

func (c *counted) add(n int) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.sent += int64(n)
}

func (g *registry) addBlob(repo string, b []byte) digest.Digest {
	d := digest.FromBytes(b)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blobs[repo+"@"+d.String()] = b
	return d
}

func (g *registry) addManifest(repo, tag, mediaType, body string) digest.Digest {
	d := digest.FromString(body)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.manifests[repo+"@"+tag], g.manifests[repo+"@"+d.String()] = []byte(body), []byte(body)
	g.types[d.String()] = mediaType
	return d
}

// take gives what was asked since the last time.
func (g *registry) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.asked
	g.asked = nil
	return a
}

// server is a proxy over a real store, in front of a registry named "up".
type server struct {
	*httptest.Server
	p     *Proxy
	store *storage.Store
	reg   *registry
	stop  func()
	hasty bool // do does not wait until what was served has its rows
}

func newServer(t testing.TB, reg *registry, change func(*Options)) *server {
	t.Helper()
	return newServerAt(t, t.TempDir(), reg, change, nil)
}

// newServerAt opens, or opens again, the store in dir.
func newServerAt(t testing.TB, dir string, reg *registry, change func(*Options), limit func(*storage.Options)) *server {
	t.Helper()
	blobs, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("PROXY_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	so := storage.Options{Blobs: blobs, Meta: meta, Logger: log}
	if limit != nil {
		limit(&so)
	}
	store := storage.New(so)
	u, err := url.Parse(reg.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := upstream.New(upstream.Options{
		Name: "up", URL: u, StallTimeout: 10 * time.Second, Retries: 2, Backoff: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Store: store, Logger: log, Default: "up",
		Upstreams: []*Upstream{{Name: "up", Registry: client, TagTTL: time.Hour, TagTimeout: time.Minute}},
	}
	if change != nil {
		change(&o)
	}
	life, end := context.WithCancel(context.Background())
	p, err := New(life, o)
	if err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	storeCtx, endStore := context.WithCancel(context.Background())
	run.Go(func() { _ = store.Run(storeCtx) })
	proxyDone := make(chan struct{})
	go func() { defer close(proxyDone); _ = p.Run(life) }()
	s := &server{Server: httptest.NewServer(p), p: p, store: store, reg: reg}
	s.stop = sync.OnceFunc(func() {
		s.Close()
		end()
		<-proxyDone
		endStore()
		run.Wait()
		client.Close()
		if err := meta.Close(); err != nil {
			t.Errorf("close rows: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the request, or of reading the body
}

// do makes one request, and waits until a manifest that it brought has its rows.
func (s *server) do(t *testing.T, method, path string, header ...string) answer {
	t.Helper()
	if !s.hasty {
		defer s.filed()
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil { // cut before the header was out
		return answer{err: err, header: http.Header{}}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body, err}
}

// filed waits until every manifest that was served is stored.
func (s *server) filed() {
	for _, fl := range s.p.filings.all() {
		<-fl.done
	}
}

// random gives n bytes that are the same every time.
func random(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// image is a one-layer image as JSON.
func image(config, layer digest.Digest, layerSize int) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},`+
		`"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, config, v1.MediaTypeImageLayerGzip, layer, layerSize)
}

var _ = oci.EmptyDigest
