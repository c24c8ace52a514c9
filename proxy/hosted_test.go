package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// newHost is a proxy with the hosted namespaces local and other, run as h says.
func newHost(t *testing.T, h Hosting, change func(*Options)) *server {
	t.Helper()
	return newServer(t, newRegistry(t), func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true, Hosting: h}, &Upstream{Name: "other", Hosted: true})
		if change != nil {
			change(o)
		}
	})
}

// send is do with a body.
func (s *server) send(t *testing.T, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return answer{err: err, header: http.Header{}}
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, got, err}
}

func (s *server) pushBlob(t *testing.T, repo string, body []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(body)
	if a := s.send(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), bytes.NewReader(body)); a.status != http.StatusCreated {
		t.Fatalf("push a blob to %s: %d %s", repo, a.status, a.body)
	}
	return d
}

func (s *server) putManifest(t *testing.T, repo, ref, body string) answer {
	t.Helper()
	return s.send(t, http.MethodPut, "/v2/"+repo+"/manifests/"+ref, strings.NewReader(body), "Content-Type", v1.MediaTypeImageManifest)
}

// pushImage pushes an image of one layer.
func (s *server) pushImage(t *testing.T, repo, tag string, layer []byte) digest.Digest {
	t.Helper()
	s.pushBlob(t, repo, oci.EmptyJSON)
	body := image(oci.EmptyDigest, s.pushBlob(t, repo, layer), len(layer))
	if a := s.putManifest(t, repo, tag, body); a.status != http.StatusCreated {
		t.Fatalf("push %s:%s: %d %s", repo, tag, a.status, a.body)
	}
	return digest.FromString(body)
}

// wantCode compares an answer with a status and a code of the specification.
func wantCode(t *testing.T, what string, a answer, status int, code string) {
	t.Helper()
	if a.status != status || !bytes.Contains(a.body, []byte(`"`+code+`"`)) {
		t.Errorf("%s: %d %s, want %d %s", what, a.status, a.body, status, code)
	}
}

func TestPushAndPull(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	layer := random(300<<10, 1)
	m := s.pushImage(t, "local/app", "v1", layer)
	for _, ref := range []string{"v1", m.String()} {
		a := s.do(t, http.MethodGet, "/v2/local/app/manifests/"+ref)
		if a.status != http.StatusOK || digest.FromBytes(a.body) != m || a.header.Get("Content-Type") != v1.MediaTypeImageManifest {
			t.Errorf("pull %s: %d %s", ref, a.status, a.body)
		}
	}
	path := "/v2/local/app/blobs/" + digest.FromBytes(layer).String()
	if a := s.do(t, http.MethodGet, path); !bytes.Equal(a.body, layer) || a.header.Get("X-Cache") != "hit" {
		t.Errorf("pull the layer: %d, %d bytes", a.status, len(a.body))
	}
	if a := s.do(t, http.MethodGet, path, "Range", "bytes=100-199"); !bytes.Equal(a.body, layer[100:200]) {
		t.Errorf("pull a range: %d, %d bytes", a.status, len(a.body))
	}
	wantCode(t, "the layer elsewhere", s.do(t, http.MethodGet, strings.Replace(path, "app", "app2", 1)), http.StatusNotFound, "BLOB_UNKNOWN")
	wantCode(t, "the manifest elsewhere", s.do(t, http.MethodGet, "/v2/other/app/manifests/"+m.String()), http.StatusNotFound, "MANIFEST_UNKNOWN")
	if got := s.reg.take(); len(got) > 0 {
		t.Errorf("upstream was asked: %v", got)
	}
}

// TestChunks sends a blob in pieces, some of them wrong.
func TestChunks(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	body := random(1000, 1)
	a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil)
	loc := a.header.Get("Location")
	if a.status != http.StatusAccepted || loc == "" || a.header.Get("Range") != "0-0" {
		t.Fatalf("begin: %d %v", a.status, a.header)
	}
	chunk := func(method, loc string, from, to int, rng string) answer {
		t.Helper()
		return s.send(t, method, loc, bytes.NewReader(body[from:to]), "Content-Range", rng)
	}
	if a := chunk(http.MethodPatch, loc, 0, 400, "0-399"); a.status != http.StatusAccepted || a.header.Get("Range") != "0-399" {
		t.Fatalf("first chunk: %d %v", a.status, a.header)
	}
	for what, a := range map[string]answer{
		"a gap":   chunk(http.MethodPatch, loc, 500, 600, "500-599"),
		"a past":  chunk(http.MethodPatch, loc, 0, 400, "0-399"),
		"the end": chunk(http.MethodPut, loc+"?digest="+digest.FromBytes(body).String(), 500, 1000, "500-999"),
	} {
		wantCode(t, what, a, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
		if a.header.Get("Range") != "0-399" || a.header.Get("Location") == "" {
			t.Errorf("%s: headers %v", what, a.header)
		}
	}
	wantCode(t, "another length", chunk(http.MethodPatch, loc, 400, 500, "400-999"), http.StatusBadRequest, "SIZE_INVALID")
	wantCode(t, "no range", chunk(http.MethodPatch, loc, 400, 500, "bytes 400-499/*"), http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
	wantCode(t, "another repository", s.send(t, http.MethodGet, strings.Replace(loc, "app", "ap2", 1), nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	wantCode(t, "no digest", s.send(t, http.MethodPut, loc, nil), http.StatusBadRequest, "DIGEST_INVALID")
	if a := s.send(t, http.MethodGet, loc, nil); a.status != http.StatusNoContent || a.header.Get("Range") != "0-399" {
		t.Errorf("status: %d %v", a.status, a.header)
	}
	// A streamed chunk, without a length.
	if a := s.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(body[400:900]))); a.status != http.StatusAccepted || a.header.Get("Range") != "0-899" {
		t.Errorf("streamed chunk: %d %v", a.status, a.header)
	}
	d := digest.FromBytes(body)
	if a := chunk(http.MethodPut, loc+"?digest="+d.String(), 900, 1000, "900-999"); a.status != http.StatusCreated || a.header.Get("Docker-Content-Digest") != d.String() {
		t.Fatalf("end: %d %s", a.status, a.body)
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/blobs/"+d.String()); !bytes.Equal(a.body, body) {
		t.Errorf("pull: %d, %d bytes", a.status, len(a.body))
	}
	wantCode(t, "finished", s.send(t, http.MethodGet, loc, nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

func TestUploadEnds(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	wrong := "/v2/local/app/blobs/uploads/?digest=" + digest.FromString("other").String()
	wantCode(t, "other bytes", s.send(t, http.MethodPost, wrong, strings.NewReader("these")), http.StatusBadRequest, "DIGEST_INVALID")
	wantCode(t, "an algorithm", s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest-algorithm=md5", nil), http.StatusBadRequest, "DIGEST_INVALID")
	loc := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
	if a := s.send(t, http.MethodDelete, loc, nil); a.status != http.StatusNoContent {
		t.Errorf("cancel: %d %s", a.status, a.body)
	}
	wantCode(t, "cancelled", s.send(t, http.MethodPatch, loc, nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	if got := s.store.Usage().Total(); got != 0 {
		t.Errorf("%d bytes stay", got)
	}
}

func TestMount(t *testing.T) {
	refused := ""
	s := newHost(t, Hosting{}, func(o *Options) {
		o.Access = accessFunc(func(_ *http.Request, repo oci.Repo, action oci.Action) error {
			if action == oci.ActionPull && repo.String() == refused {
				return oci.NewError(errcode.ErrorCodeDenied, "not you")
			}
			return nil
		})
	})
	d := s.pushBlob(t, "local/a", random(1000, 1))
	pulled := s.reg.addBlob("b", random(1000, 2))
	if a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+pulled.String()); a.status != http.StatusOK {
		t.Fatalf("pull: %d", a.status)
	}
	if err := s.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, repo, query, refused string
		want                       int
	}{
		{"nowhere", "local/b", digest.FromString("none").String() + "&from=local/a", "", http.StatusAccepted},
		{"not readable", "local/b", d.String() + "&from=local/a", "local/a", http.StatusAccepted},
		{"not readable, unnamed", "local/b", d.String(), "local/a", http.StatusAccepted},
		{"does not have it", "local/b", d.String() + "&from=local/c", "", http.StatusAccepted},
		{"no such upstream", "local/b", d.String() + "&from=example.org/c", "", http.StatusAccepted},
		{"no name", "local/b", d.String() + "&from=../c", "", http.StatusAccepted},
		{"from", "local/b", d.String() + "&from=local/a", "", http.StatusCreated},
		{"unnamed", "other/b", d.String(), "", http.StatusCreated},
		{"from what was pulled", "local/c", pulled.String() + "&from=up/b", "", http.StatusCreated},
	} {
		refused = c.refused
		a := s.send(t, http.MethodPost, "/v2/"+c.repo+"/blobs/uploads/?mount="+c.query, nil)
		if a.status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.want)
		}
		if c.want == http.StatusCreated {
			if b := s.do(t, http.MethodHead, a.header.Get("Location")); b.status != http.StatusOK {
				t.Errorf("%s: what was mounted: %d", c.name, b.status)
			}
		}
	}
	if row, err := s.store.Stat(t.Context(), pulled); err != nil || row.Kind != storage.KindHosted {
		t.Errorf("what was pulled and mounted: %+v, %v", row, err)
	}
}

func TestDelete(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	layer := random(10, 1)
	m := s.pushImage(t, "local/app", "v1", layer)
	s.pushImage(t, "local/app", "v2", layer)
	s.pushImage(t, "other/app", "v1", layer)
	blob := digest.FromBytes(layer)
	status := func(what, method, path string, want int) {
		t.Helper()
		if a := s.do(t, method, "/v2/"+path); a.status != want {
			t.Errorf("%s: %s %s: %d %s, want %d", what, method, path, a.status, a.body, want)
		}
	}
	status("a tag", "DELETE", "local/app/manifests/v2", 202)
	status("it is gone", "GET", "local/app/manifests/v2", 404)
	status("again", "DELETE", "local/app/manifests/v2", 404)
	status("the other stays", "GET", "local/app/manifests/v1", 200)
	status("a manifest", "DELETE", "local/app/manifests/"+m.String(), 202)
	status("with its tags", "GET", "local/app/manifests/v1", 404)
	status("it is gone", "GET", "local/app/manifests/"+m.String(), 404)
	status("again", "DELETE", "local/app/manifests/"+m.String(), 404)
	status("a blob is no manifest", "DELETE", "local/app/manifests/"+blob.String(), 404)
	status("a blob", "DELETE", "local/app/blobs/"+blob.String(), 202)
	status("it is gone", "HEAD", "local/app/blobs/"+blob.String(), 404)
	status("again", "DELETE", "local/app/blobs/"+blob.String(), 404)
	status("{} too", "DELETE", "local/app/blobs/"+oci.EmptyDigest.String(), 202)
	status("{} is gone", "HEAD", "local/app/blobs/"+oci.EmptyDigest.String(), 404)
	status("elsewhere it stays", "GET", "other/app/manifests/v1", 200)
	status("elsewhere it stays", "GET", "other/app/blobs/"+blob.String(), 200)
	status("nothing is left", "GET", "local/app/tags/list", 404)
}

// TestDeletePinned: what an operator keeps is not deleted by a client.
func TestDeletePinned(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	layer := random(10, 1)
	m := s.pushImage(t, "local/app", "v1", layer)
	if _, err := s.store.Pin(t.Context(), "local/app:v1", m); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"manifests/" + m.String(), "blobs/" + digest.FromBytes(layer).String()} {
		a := s.do(t, http.MethodDelete, "/v2/local/app/"+path)
		wantCode(t, path, a, http.StatusForbidden, "DENIED")
		if !bytes.Contains(a.body, []byte("pinned as local/app:v1")) {
			t.Errorf("%s: the refusal does not name the pin: %s", path, a.body)
		}
	}
	if err := s.store.Unpin(t.Context(), "local/app:v1"); err != nil {
		t.Fatal(err)
	}
	if a := s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+m.String()); a.status != http.StatusAccepted {
		t.Errorf("once unpinned: %d %s", a.status, a.body)
	}
}

// TestReadOnlyRepositories tries to change what is pulled through, and what an
// operator has closed.
func TestReadOnlyRepositories(t *testing.T) {
	s := newHost(t, Hosting{ReadOnly: true}, nil)
	for _, repo := range []string{"up/app", "app", "local/app"} {
		for _, c := range [][2]string{
			{"PUT", "manifests/v1"}, {"DELETE", "manifests/v1"}, {"DELETE", "blobs/" + oci.EmptyDigest.String()},
			{"POST", "blobs/uploads/"}, {"POST", "blobs/uploads"}, {"PATCH", "blobs/uploads/x"}, {"PUT", "blobs/uploads/x"}, {"DELETE", "blobs/uploads/x"},
		} {
			a := s.send(t, c[0], "/v2/"+repo+"/"+c[1], strings.NewReader("{}"))
			wantCode(t, repo+" "+c[0]+" "+c[1], a, http.StatusMethodNotAllowed, "UNSUPPORTED")
			if a.header.Get("Allow") == "" {
				t.Errorf("%s %s %s: no Allow", repo, c[0], c[1])
			}
		}
	}
}

// TestCrowdPushes has 16 clients push the same layer at once, in both ways.
func TestCrowdPushes(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	body := random(1<<20, 1)
	d := digest.FromBytes(body)
	var crowd sync.WaitGroup
	for i := range 16 {
		crowd.Go(func() {
			path := fmt.Sprintf("/v2/local/app%d/blobs/uploads/", i%4)
			a := s.send(t, http.MethodPost, path, nil)
			if a.status != http.StatusAccepted {
				t.Errorf("begin: %d %s", a.status, a.body)
				return
			}
			loc, rest := a.header.Get("Location"), body
			if i%2 == 0 {
				if a = s.send(t, http.MethodPatch, loc, bytes.NewReader(body)); a.status != http.StatusAccepted {
					t.Errorf("send: %d %s", a.status, a.body)
				}
				loc, rest = a.header.Get("Location"), nil
			}
			if a = s.send(t, http.MethodPut, loc+"?digest="+d.String(), bytes.NewReader(rest)); a.status != http.StatusCreated {
				t.Errorf("end: %d %s", a.status, a.body)
			}
		})
	}
	crowd.Wait()
	u := s.store.Usage()
	if u.Blobs[storage.KindHosted] != 1 || u.Total() != int64(len(body)) {
		t.Errorf("stored: %+v", u)
	}
}

// TestHostedRouting holds that only the first part of a name, and no other way,
// leads to a hosted namespace.
func TestHostedRouting(t *testing.T) {
	s := newHost(t, Hosting{}, func(o *Options) { o.Upstreams[0].Hosts = []string{"bound.example"} })
	m := s.pushImage(t, "local/app", "v1", random(10, 1))
	at := func(host, path string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	path := "/v2/local/app/manifests/" + m.String()
	for _, c := range []struct {
		name, host, path string
		want             int
	}{
		{"by name", "", path, 200},
		{"by another registry's ns=", "", path + "?ns=up", 404},
		{"by its own ns=", "", strings.Replace(path, "local/", "", 1) + "?ns=local", 200},
		{"behind a virtual host", "bound.example", path, 404},
	} {
		if got := at(c.host, c.path); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
