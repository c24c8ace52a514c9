package proxy

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func TestQuota(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	s.pushBlob(t, "local/a", random(600, 1))
	s.pushBlob(t, "local/b", random(600, 1)) // counted once
	over := random(600, 2)
	path := "/v2/local/a/blobs/uploads/?digest=" + digest.FromBytes(over).String()
	full := s.send(t, http.MethodPost, path, bytes.NewReader(over))
	wantCode(t, "too much", full, http.StatusForbidden, "DENIED")
	if !bytes.Contains(full.body, []byte("quota of local")) || !bytes.Contains(full.body, []byte("hosted.local.quota")) {
		t.Errorf("the refusal does not say what to do: %s", full.body)
	}
	wantCode(t, "too much, streamed", s.send(t, http.MethodPost, path, io.MultiReader(bytes.NewReader(over))), http.StatusForbidden, "DENIED")
	s.pushBlob(t, "other/a", over)
	wantCode(t, "mounted", s.send(t, http.MethodPost, "/v2/local/a/blobs/uploads/?from=other/a&mount="+digest.FromBytes(over).String(), nil), http.StatusForbidden, "DENIED")
	for _, repo := range []string{"local/a", "local/b"} {
		if a := s.do(t, http.MethodDelete, "/v2/"+repo+"/blobs/"+digest.FromBytes(random(600, 1)).String()); a.status != http.StatusAccepted {
			t.Fatalf("delete: %d", a.status)
		}
	}
	s.pushBlob(t, "local/a", over)
}

// TestQuotaAfterDeletion: what a client deletes makes room at once, and not what
// another image needs; and what is named again counts again.
func TestQuotaAfterDeletion(t *testing.T) {
	s := newHost(t, Hosting{Quota: 3000}, nil)
	base, other := random(1000, 1), random(1000, 2)
	s.pushImage(t, "local/app", "base", base)
	m := s.pushImage(t, "local/app", "v1", other)
	body := s.do(t, http.MethodGet, "/v2/local/app/manifests/v1").body
	third := random(1000, 3)
	path := "/v2/local/app/blobs/uploads/?digest=" + digest.FromBytes(third).String()
	full := s.send(t, http.MethodPost, path, bytes.NewReader(third))
	wantCode(t, "a third", full, http.StatusForbidden, "DENIED")
	if !bytes.Contains(full.body, []byte("delete images there, by digest, or raise hosted.local.quota")) {
		t.Errorf("the refusal does not say what to do: %s", full.body)
	}
	if a := s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+m.String()); a.status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/blobs/"+digest.FromBytes(other).String()); a.status != http.StatusOK {
		t.Errorf("its layer can't be read for a while: %d", a.status)
	}
	s.pushImage(t, "local/app", "v3", third)
	wantCode(t, "the second again", s.putManifest(t, "local/app", "v1", string(body)), http.StatusForbidden, "DENIED")
	if a := s.do(t, http.MethodGet, "/v2/local/app/manifests/base"); a.status != http.StatusOK {
		t.Errorf("the first: %d", a.status)
	}
	v3 := s.do(t, http.MethodHead, "/v2/local/app/manifests/v3").header.Get("Docker-Content-Digest")
	s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+v3)
	if a := s.putManifest(t, "local/app", "v1", string(body)); a.status != http.StatusCreated {
		t.Errorf("the second again, once there is room: %d %s", a.status, a.body)
	}
	wantCode(t, "a third, beside it", s.send(t, http.MethodPost, path, bytes.NewReader(third)), http.StatusForbidden, "DENIED")
}

// TestQuotaOfOpenUploads: what has come of uploads that are under way counts, and
// what is refused or cancelled does not.
func TestQuotaOfOpenUploads(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	begin := func(repo string) string {
		t.Helper()
		a := s.send(t, http.MethodPost, "/v2/local/"+repo+"/blobs/uploads/", nil)
		if a.status != http.StatusAccepted {
			t.Fatalf("begin: %d %s", a.status, a.body)
		}
		return a.header.Get("Location")
	}
	send := func(loc string, body io.Reader) answer { return s.send(t, http.MethodPatch, loc, body) }
	first, second := begin("a"), begin("b")
	body := random(600, 1)
	if a := send(first, bytes.NewReader(body)); a.status != http.StatusAccepted {
		t.Fatalf("first: %d %s", a.status, a.body)
	}
	refused := send(second, bytes.NewReader(random(600, 2)))
	wantCode(t, "second", refused, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if !bytes.Contains(refused.body, []byte("its images take 0 B, uploads that are under way 600 B")) || refused.header.Get("Retry-After") == "" {
		t.Errorf("the refusal: %s", refused.body)
	}
	if a := send(second, nil); a.status != http.StatusAccepted || a.header.Get("Range") != "0-0" {
		t.Errorf("second, which can go on: %d %s, Range %s", a.status, a.body, a.header.Get("Range"))
	}
	wantCode(t, "streamed", send(second, io.MultiReader(bytes.NewReader(random(600, 2)))), http.StatusTooManyRequests, "TOOMANYREQUESTS")
	wantCode(t, "in one go", s.send(t, http.MethodPost, "/v2/local/a/blobs/uploads/?digest="+digest.FromBytes(random(600, 2)).String(), bytes.NewReader(random(600, 2))),
		http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if got := s.store.OpenCount("local").Bytes(); got != 600 {
		t.Errorf("%d bytes are open, want the 600 of the first", got)
	}
	if a := s.send(t, http.MethodPut, first+"?digest="+digest.FromBytes(body).String(), nil); a.status != http.StatusCreated {
		t.Errorf("end: %d %s", a.status, a.body)
	}
	s.pushBlob(t, "local/c", body) // it is counted already, whatever is sent of it again
	third := begin("a")
	if a := send(third, bytes.NewReader(random(300, 3))); a.status != http.StatusAccepted {
		t.Errorf("third: %d %s", a.status, a.body)
	}
	s.pushBlob(t, "other/a", random(200, 4))
	mount := "/v2/local/a/blobs/uploads/?from=other/a&mount=" + digest.FromBytes(random(200, 4)).String()
	wantCode(t, "mounted", s.send(t, http.MethodPost, mount, nil), http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if a := s.do(t, http.MethodDelete, third); a.status != http.StatusNoContent {
		t.Errorf("cancel: %d", a.status)
	}
	if a := s.send(t, http.MethodPost, mount, nil); a.status != http.StatusCreated {
		t.Errorf("mounted, once there is room: %d %s", a.status, a.body)
	}
	if got := s.store.OpenCount("local").Bytes(); got != 0 {
		t.Errorf("%d bytes are open in the end", got)
	}
}

// named is an Access that knows callers by a header.
type named struct{ accessFunc }

func (named) Enter(*http.Request) error         { return nil }
func (named) Sees(*http.Request, oci.Repo) bool { return true }
func (named) Who(r *http.Request) string        { return r.Header.Get("X-User") }

// TestManyOpenUploads bounds the uploads of one caller.
func TestManyOpenUploads(t *testing.T) {
	dir := t.TempDir()
	host := func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
		o.MaxUploads = 2
		o.Access = named{func(*http.Request, oci.Repo, oci.Action) error { return nil }}
	}
	s := newServerAt(t, dir, newRegistry(t), host, nil)
	begin := func(repo, user string) answer {
		t.Helper()
		return s.send(t, http.MethodPost, "/v2/local/"+repo+"/blobs/uploads/", nil, "X-User", user)
	}
	var locs []string
	for _, repo := range []string{"a", "b"} {
		locs = append(locs, begin(repo, "alice").header.Get("Location"))
	}
	full := begin("c", "alice")
	wantCode(t, "a third", full, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if full.header.Get("Retry-After") == "" || !bytes.Contains(full.body, []byte("user alice has 2 uploads open")) || !bytes.Contains(full.body, []byte("uploads.max_open")) {
		t.Errorf("the refusal: %v %s", full.header, full.body)
	}
	for _, user := range []string{"bob", ""} {
		if a := begin("c", user); a.status != http.StatusAccepted {
			t.Errorf("%q: %d %s", user, a.status, a.body)
		}
	}
	if a := s.do(t, http.MethodDelete, locs[0]); a.status != http.StatusNoContent {
		t.Fatalf("cancel: %d", a.status)
	}
	if a := begin("c", "alice"); a.status != http.StatusAccepted {
		t.Errorf("after one was cancelled: %d %s", a.status, a.body)
	}
	s.pushBlob(t, "local/d", random(10, 1)) // an address has one open, and one more ends at once
}

// TestIdleUploadMakesRoom: what a client left takes no room from one that pushes.
func TestIdleUploadMakesRoom(t *testing.T) {
	var late atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	s := newServerAt(t, t.TempDir(), newRegistry(t), func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true, Hosting: Hosting{Quota: 1000}})
	}, func(o *storage.Options) { o.Now = now })
	open := func(n byte) string {
		t.Helper()
		loc := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
		if a := s.send(t, http.MethodPatch, loc, bytes.NewReader(random(400, n))); a.status != http.StatusAccepted {
			t.Fatalf("chunk: %d %s", a.status, a.body)
		}
		return loc
	}
	oldest := open(1)
	late.Store(int64(time.Minute))
	older := open(2)
	body := random(500, 3)
	push := func() answer {
		return s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(body).String(), bytes.NewReader(body))
	}
	wantCode(t, "while they may go on", push(), http.StatusTooManyRequests, "TOOMANYREQUESTS")
	late.Store(int64(time.Hour))
	if a := push(); a.status != http.StatusCreated {
		t.Errorf("once they are left: %d %s", a.status, a.body)
	}
	wantCode(t, "the oldest", s.do(t, http.MethodGet, oldest), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	if a := s.do(t, http.MethodGet, older); a.status != http.StatusNoContent {
		t.Errorf("the other, for which there is room: %d", a.status)
	}
}
