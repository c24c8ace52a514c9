package upstream

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repo = "library/app"

// registry is a small real registry over loopback. hook, where it is set,
// answers what it returns true for.
type registry struct {
	*httptest.Server
	blobs     map[digest.Digest][]byte
	manifests map[string][]byte // by tag or digest
	hook      func(w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	asked []*http.Request
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	return startRegistry(t, (*httptest.Server).Start)
}

func startRegistry(t *testing.T, start func(*httptest.Server)) *registry {
	t.Helper()
	reg := &registry{blobs: map[digest.Digest][]byte{}, manifests: map[string][]byte{}}
	reg.Server = httptest.NewUnstartedServer(reg)
	start(reg.Server)
	t.Cleanup(reg.Close)
	return reg
}

func (reg *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reg.mu.Lock()
	reg.asked = append(reg.asked, r)
	reg.mu.Unlock()
	if reg.hook != nil && reg.hook(w, r) {
		return
	}
	switch rest, ok := strings.CutPrefix(r.URL.Path, "/v2/"+repo+"/"); {
	case r.URL.Path == "/v2/":
	case !ok:
		http.NotFound(w, r)
	case strings.HasPrefix(rest, "blobs/"):
		reg.serveBlob(w, r, digest.Digest(strings.TrimPrefix(rest, "blobs/")))
	case strings.HasPrefix(rest, "manifests/"):
		reg.serveManifest(w, r, strings.TrimPrefix(rest, "manifests/"))
	default:
		http.NotFound(w, r)
	}
}

func (reg *registry) serveBlob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	b, ok := reg.blobs[d]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (reg *registry) serveManifest(w http.ResponseWriter, r *http.Request, ref string) {
	b, ok := reg.manifests[ref]
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	var doc struct{ MediaType string }
	if json.Unmarshal(b, &doc) != nil || doc.MediaType == "" {
		doc.MediaType = v1.MediaTypeImageManifest
	}
	w.Header().Set("Content-Type", doc.MediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(b).String())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"errors":[{"code":"`+code+`","message":"`+message+`"}]}`)
}

func (reg *registry) addBlob(b []byte) digest.Digest {
	d := digest.FromBytes(b)
	reg.blobs[d] = b
	return d
}

// count is the number of requests so far whose path contains part.
func (reg *registry) count(part string) int {
	n := 0
	for _, r := range reg.requests() {
		if strings.Contains(r.URL.Path, part) {
			n++
		}
	}
	return n
}

func (reg *registry) requests() []*http.Request {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return append([]*http.Request(nil), reg.asked...)
}

// newClient makes a client of the server at root that loses no time.
func newClient(t *testing.T, root string, mods ...func(*Options)) *Client {
	t.Helper()
	u, err := url.Parse(root)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Name: "test", URL: u, Backoff: time.Microsecond, MaxBackoff: time.Millisecond,
		StallTimeout: 5 * time.Second, HeaderTimeout: 5 * time.Second,
	}
	for _, mod := range mods {
		mod(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// rootCAs trusts the certificate of each server.
func rootCAs(servers ...*httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, s := range servers {
		pool.AddCert(s.Certificate())
	}
	return pool
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func tag(s string) oci.Reference { return oci.Reference{Tag: s} }

// readBlob opens and reads a range to its end.
func readBlob(t *testing.T, c *Client, d digest.Digest, r oci.Range) ([]byte, error) {
	t.Helper()
	b, err := c.Blob(t.Context(), repo, d, r)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}
