package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/ztoc"
)

// lazyImage is what a lazy client of an image asks for.
type lazyImage struct {
	repo     string // up/acme/app
	manifest digest.Digest
	layer    v1.Descriptor
	body     []byte // of the layer
}

// ask sends one GET, of a range where r has one.
func ask(t *testing.T, addr, path, r string) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r != "" {
		req.Header.Set("Range", "bytes="+r)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// pushLazy puts an image with one large layer on the shelf.
func pushLazy(t *testing.T, s *shelf, word string, seed uint64) lazyImage {
	t.Helper()
	idx := s.push(t, word, seed, "amd64")
	im, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(im.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	x := lazyImage{repo: "up/" + strings.Split(word, ":")[0], manifest: digest.Digest(im.Manifests[0].Digest.String())}
	rc, err := layers[1].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if x.body, err = io.ReadAll(rc); err != nil {
		t.Fatal(err)
	}
	x.layer = v1.Descriptor{Digest: digest.FromBytes(x.body), Size: int64(len(x.body))}
	return x
}

// read asks for a range of the layer and compares what comes; ok is what is wanted.
func (x *lazyImage) read(t *testing.T, addr string, r oci.Range, ok bool) {
	t.Helper()
	status, body := ask(t, addr, x.repo+"/blobs/"+x.layer.Digest.String(), fmt.Sprintf("%d-%d", r.Off, r.End-1))
	switch {
	case ok && (status != http.StatusPartialContent || !bytes.Equal(body, x.body[r.Off:r.End])):
		t.Errorf("bytes %d to %d: %d, %d bytes %.200q", r.Off, r.End, status, len(body), body)
	case !ok && (status != http.StatusNotFound || !bytes.Contains(body, []byte("of which a bundle brought some spans only"))):
		t.Errorf("bytes %d to %d that are not here: %d %.300q", r.Off, r.End, status, body)
	}
}

// discover goes the way of soci-snapshotter: the list of referrers, the index, its
// zTOCs. It gives the table of the layer's.
func (x *lazyImage) discover(t *testing.T, addr string) ztoc.SpanTable {
	t.Helper()
	_, body := ask(t, addr, x.repo+"/referrers/"+x.manifest.String()+"?artifactType="+strings.ReplaceAll(oci.MediaTypeSOCIIndexV1, "+", "%2B"), "")
	list := decodeJSON[v1.Index](t, string(body))
	if len(list.Manifests) != 1 {
		t.Fatalf("%d SOCI indexes are listed: %s", len(list.Manifests), body)
	}
	_, body = ask(t, addr, x.repo+"/manifests/"+list.Manifests[0].Digest.String(), "")
	index := decodeJSON[v1.Manifest](t, string(body))
	for _, l := range index.Layers {
		if l.Annotations["com.amazon.soci.image-layer-digest"] != x.layer.Digest.String() {
			continue
		}
		status, body := ask(t, addr, x.repo+"/blobs/"+l.Digest.String(), "")
		if status != http.StatusOK || digest.FromBytes(body) != l.Digest {
			t.Fatalf("the zTOC: %d, %d bytes", status, len(body))
		}
		z, err := ztoc.Parse(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		table, err := z.Table()
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	t.Fatalf("the index names no zTOC of %s: %s", x.layer.Digest, body)
	return ztoc.SpanTable{}
}

func span(table ztoc.SpanTable, i int) oci.Range {
	s := table.Span(i)
	return oci.Range{Off: s.Off, End: s.End}
}

// keys makes a pair of keys as README says.
func keys(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	private, public = filepath.Join(dir, name), filepath.Join(dir, name+".pub")
	for _, args := range [][]string{{"genpkey", "-algorithm", "ed25519", "-out", private}, {"pkey", "-in", private, "-pubout", "-out", public}} {
		if out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	return private, public
}

// trusting is the configuration of a cluster without a network that trusts keys.
func trusting(t *testing.T, public ...string) string {
	t.Helper()
	return withKeys(t, deadConfig(t), public...)
}

// withKeys is a copy of a configuration that trusts keys.
func withKeys(t *testing.T, config string, public ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trusting.yml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(append([]string{}, public...))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, "import: {trusted_keys: "+string(list)+"}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// exportLazy pulls an image, reads spans 1, 2 and 5 of its layer as a client, and
// writes a bundle of what was read, signed with key.
func exportLazy(t *testing.T, s *shelf, x *lazyImage, word, file, key string, more ...string) (table ztoc.SpanTable, said string) {
	t.Helper()
	src := startServer(t, "--config", s.config)
	must(t, "warm", "up/"+word, "-p", "linux/amd64", "--data", src.dir)
	table = x.discover(t, src.addr)
	if table.Len() < 9 {
		t.Fatalf("the layer has %d spans only", table.Len())
	}
	for _, i := range []int{1, 2, 5} {
		x.read(t, src.addr, span(table, i), true)
	}
	args := append([]string{"export", "up/" + word, "-p", "linux/amd64", "--lazy-only", "-o", file, "--data", src.dir}, more...)
	if key != "" {
		args = append(args, "--sign", key)
	}
	said = must(t, args...)
	if err := src.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	src.end(t)
	return table, said
}

// TestLazyBundle starts an image from a few of its spans, where there is no
// network and no whole layer, and brings the rest afterwards.
func TestLazyBundle(t *testing.T) {
	s := newShelf(t)
	x := pushLazy(t, s, "acme/app:1", 1)
	dir := t.TempDir()
	file, full := filepath.Join(dir, "lazy.tar"), filepath.Join(dir, "full.tar")
	private, public := keys(t, dir, "ops")
	table, said := exportLazy(t, s, &x, "acme/app:1", file, private)
	if want := fmt.Sprintf("%d of %d spans of layer %s", table.Len()-3, table.Len(), x.layer.Digest); !strings.Contains(said, want) || !strings.Contains(said, "signed with sha256:") {
		t.Errorf("export does not say %q:\n%s", want, said)
	}
	must(t, "export", "up/acme/app:1", "-p", "linux/amd64", "-o", full, "--data", filepath.Join(dir, "full"), "--config", s.config)
	if lazy, whole := len(readFile(t, file)), len(readFile(t, full)); lazy > whole-len(x.body)/2 {
		t.Errorf("the lazy bundle has %d bytes, the whole one %d", lazy, whole)
	}
	s.Close()

	to := filepath.Join(dir, "to")
	srv := startServer(t, "--config", trusting(t, public), "--data", to)
	for range 2 { // twice, and it is the same
		out := must(t, "import", file, "--data", to)
		for _, want := range []string{"signed with " + public + ", sha256:", "here, but for what no start had read of 1 of its layers", "from the bundle"} {
			if !strings.Contains(out, want) {
				t.Errorf("import does not say %q:\n%s", want, out)
			}
		}
		x.startsFrom(t, srv.addr, table)
	}
	if out := must(t, "index", "info", "up/acme/app:1", "--data", to); !strings.Contains(out, "its spans came in a bundle, and it is indexed once it is here whole") {
		t.Errorf("index info does not say why a layer is not indexed:\n%s", out)
	}
	for !strings.Contains(must(t, "missing", "--data", to), x.layer.Digest.String()) && !t.Failed() { // written within a second; the test's own limit ends it
	}
	if list := must(t, "missing", "--data", to); !strings.HasPrefix(list, "up/acme/app:1 # asked for its blob ") {
		t.Errorf("the list does not name the image:\n%s", list)
	}
	if out := must(t, "gc", "--data", to); strings.Contains(out, "its layer") {
		t.Error(out)
	}
	must(t, "fsck", "--data", to)
	// The whole layer comes, and is what counts from then on.
	if out := must(t, "import", full, "--data", to); !strings.Contains(out, "same") {
		t.Errorf("import of the whole says:\n%s", out)
	}
	if out := must(t, "import", file, "--data", to); strings.Contains(out, "but for") {
		t.Errorf("the layer is whole, and import of some spans says:\n%s", out)
	}
	pullFrom(t, srv.addr, "up/acme/app:1", &ggcr.Platform{OS: "linux", Architecture: "amd64"})
	x.discover(t, srv.addr)
	must(t, "fsck", "--data", to)
}

// startsFrom does what a start does with spans 1, 2 and 5 of the layer, and asks
// for more than that.
func (x *lazyImage) startsFrom(t *testing.T, addr string, table ztoc.SpanTable) {
	t.Helper()
	x.read(t, addr, oci.Range{Off: 0, End: 2}, true)
	x.read(t, addr, oci.Range{Off: 0, End: table.HeadEnd()}, true)
	if got := x.discover(t, addr); got.Len() != table.Len() {
		t.Errorf("the zTOC has %d spans, want %d", got.Len(), table.Len())
	}
	for _, i := range []int{1, 2, 5} {
		x.read(t, addr, span(table, i), true)
	}
	x.read(t, addr, oci.Range{Off: span(table, 1).Off, End: span(table, 2).End}, true)
	x.read(t, addr, oci.Range{Off: span(table, 2).End - 9, End: span(table, 2).End}, true)
	for _, i := range []int{0, 3, 7} {
		x.read(t, addr, oci.Range{Off: span(table, i).Off + 600, End: span(table, i).End}, false)
	}
	x.read(t, addr, oci.Range{Off: span(table, 1).Off, End: span(table, 5).End}, false)
	x.read(t, addr, oci.Range{Off: 0, End: x.layer.Size}, false)
	if status, _ := ask(t, addr, x.repo+"/blobs/"+x.layer.Digest.String(), ""); status != http.StatusNotFound {
		t.Errorf("the whole layer: %d", status)
	}
	for _, i := range []int{1, 5} { // a span is found under its layer alone
		if status, _ := ask(t, addr, x.repo+"/blobs/"+table.Span(i).Digest.String(), ""); status != http.StatusNotFound {
			t.Errorf("span %d by its own digest: %d", i, status)
		}
	}
}

// TestLazyOnline has the rest of a layer come from the upstream, and be what counts
// once it is whole.
func TestLazyOnline(t *testing.T) {
	s := newShelf(t)
	x := pushLazy(t, s, "acme/app:1", 1)
	dir := t.TempDir()
	file, to := filepath.Join(dir, "lazy.tar"), filepath.Join(dir, "to")
	private, public := keys(t, dir, "ops")
	table, _ := exportLazy(t, s, &x, "acme/app:1", file, private)
	// The registry on the shelf knows no open-ended ranges.
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, x.layer.Digest.String()) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(x.body))
			return
		}
		s.Config.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	srv := startServer(t, "--config", withKeys(t, s.config, public), "--upstream", "up="+front.URL, "--data", to)
	must(t, "import", file, "--data", to)
	x.read(t, srv.addr, span(table, 5), true)
	x.read(t, srv.addr, span(table, 7), true) // which did not come
	status, body := ask(t, srv.addr, x.repo+"/blobs/"+x.layer.Digest.String(), "")
	if status != http.StatusOK || !bytes.Equal(body, x.body) {
		t.Errorf("the whole layer: %d, %d bytes", status, len(body))
	}
	must(t, "warm", "up/acme/app:1", "-p", "linux/amd64", "--data", to) // waits until it is indexed
	x.discover(t, srv.addr)
	list := decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", to))
	if len(list) != 1 || list[0].Index == "" {
		t.Errorf("%+v", list)
	}
	must(t, "fsck", "--data", to)
	if err := srv.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	srv.end(t)
	db, err := bolt.Open(filepath.Join(to, metaFile), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(t.Context(), func(tx storage.Tx) error {
		_, err := tx.Imported(x.layer.Digest)
		return err
	})
	if !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what was imported of the layer, after it was indexed here: %v", err)
	}
}
