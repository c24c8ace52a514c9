package proxy

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// newLasting is newFront, with tags that are good for an hour.
func newLasting(t *testing.T, change func(*Options)) (front, host *server) {
	t.Helper()
	host = newHost(t, Hosting{}, nil)
	front = newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough, o.Upstreams[0].TagTTL = true, time.Hour
		if change != nil {
			change(o)
		}
	})
	return front, host
}

func indexOf(manifests string) string {
	return `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[` + manifests + `]}`
}

// putIndex pushes an index as the client s of repo does.
func (s *server) putIndex(t *testing.T, repo, tag, body string) digest.Digest {
	t.Helper()
	a := s.send(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, strings.NewReader(body), "Content-Type", v1.MediaTypeImageIndex)
	if a.status != http.StatusCreated {
		t.Fatalf("push %s: %d %s", tag, a.status, a.body)
	}
	return digest.FromString(body)
}

// TestSharedTag: a list of referrers that others add to at the upstream is never
// answered from what was known here, unless nothing else is to be had.
func TestSharedTag(t *testing.T) {
	front, host := newLasting(t, nil)
	subject := host.pushImage(t, "local/app", "v1", random(100, 1))
	for _, tag := range []string{"sha256-" + subject.Encoded(), "sha256-" + subject.Encoded() + ".sig"} {
		one := front.putIndex(t, "up/local/app", tag, indexOf(""))
		child := front.do(t, http.MethodGet, "/v2/up/local/app/manifests/v1")
		two := host.putIndex(t, "local/app", tag, indexOf(
			`{"mediaType":"`+v1.MediaTypeImageManifest+`","digest":"`+subject.String()+`","size":`+child.header.Get("Content-Length")+`}`))
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			a := front.do(t, method, "/v2/up/local/app/manifests/"+tag)
			if got := a.header.Get("Docker-Content-Digest"); got != two.String() {
				t.Errorf("%s %s: %s, want the %s of somebody else, after %s", method, tag, got, two, one)
			}
		}
		front.filed()
		if a := host.do(t, http.MethodDelete, "/v2/local/app/manifests/"+tag); a.status != http.StatusAccepted {
			t.Fatalf("delete: %d", a.status)
		}
		if tag == "sha256-"+subject.Encoded() {
			wantCode(t, "deleted there", front.do(t, http.MethodGet, "/v2/up/local/app/manifests/"+tag), http.StatusNotFound, "MANIFEST_UNKNOWN")
		}
	}
	tag := "sha256-" + subject.Encoded()
	known := front.putIndex(t, "up/local/app", tag, indexOf(""))
	host.Close()
	a := front.do(t, http.MethodGet, "/v2/up/local/app/manifests/"+tag)
	if a.status != http.StatusOK || digest.FromBytes(a.body) != known || a.header.Get("Warning") == "" {
		t.Errorf("upstream away: %d, %s, Warning %q", a.status, digest.FromBytes(a.body), a.header.Get("Warning"))
	}
}

// TestHeadBeforePush: the upstream says whether a blob has to be sent.
func TestHeadBeforePush(t *testing.T) {
	front, host := newLasting(t, nil)
	layer := random(500, 1)
	d := digest.FromBytes(layer)
	front.pushImage(t, "up/local/app", "v1", layer)
	if a := host.do(t, http.MethodDelete, "/v2/local/app/blobs/"+d.String()); a.status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	for _, d := range []digest.Digest{d, oci.EmptyDigest} {
		path := "/v2/up/local/other/blobs/" + d.String()
		if d != oci.EmptyDigest {
			path = "/v2/up/local/app/blobs/" + d.String()
		}
		if a := front.do(t, http.MethodHead, path); a.status != http.StatusNotFound {
			t.Errorf("HEAD %s: %d: a client would not send it", path, a.status)
		}
	}
	if a := front.do(t, http.MethodGet, "/v2/up/local/app/blobs/"+d.String()); !bytes.Equal(a.body, layer) {
		t.Errorf("what is cached: %d", a.status)
	}
	host.Close()
	if a := front.do(t, http.MethodHead, "/v2/up/local/app/blobs/"+d.String()); a.status != http.StatusOK {
		t.Errorf("upstream away: %d", a.status)
	}
}

// TestRefusalNamesBlob: what the upstream lacks is told on.
func TestRefusalNamesBlob(t *testing.T) {
	front, _ := newLasting(t, nil)
	d := digest.FromString("layer")
	a := front.putManifest(t, "up/local/app", "v1", image(d, d, 5))
	wantCode(t, "a manifest without its parts", a, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	if !bytes.Contains(a.body, []byte(`"detail":{"digest":"`+d.String()+`"}`)) {
		t.Errorf("it does not say what is missing: %s", a.body)
	}
}

// TestDeletePassed: a deletion goes through where pushes do.
func TestDeletePassed(t *testing.T) {
	front, host := newLasting(t, nil)
	for _, tagged := range []bool{true, false} {
		m := front.pushImage(t, "up/local/app", "v1", random(100, 1))
		ref := m.String()
		if tagged {
			ref = "v1"
		}
		if a := front.do(t, http.MethodDelete, "/v2/up/local/app/manifests/"+ref); a.status != http.StatusAccepted {
			t.Fatalf("delete %s: %d %s", ref, a.status, a.body)
		}
		for _, s := range []*server{host, front} {
			prefix := "/v2/up/local/app/manifests/"
			if s == host {
				prefix = "/v2/local/app/manifests/"
			}
			wantCode(t, "GET "+prefix+ref, s.do(t, http.MethodGet, prefix+ref), http.StatusNotFound, "MANIFEST_UNKNOWN")
			wantCode(t, "GET "+prefix+"v1", s.do(t, http.MethodGet, prefix+"v1"), http.StatusNotFound, "MANIFEST_UNKNOWN")
		}
		wantCode(t, "again", front.do(t, http.MethodDelete, "/v2/up/local/app/manifests/"+ref), http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
	d := digest.FromBytes(random(100, 1))
	wantCode(t, "a blob", front.do(t, http.MethodDelete, "/v2/up/local/app/blobs/"+d.String()), http.StatusMethodNotAllowed, "UNSUPPORTED")
	closed, _ := newFront(t, Hosting{}, false)
	wantCode(t, "not allowed", closed.do(t, http.MethodDelete, "/v2/up/local/app/manifests/v1"), http.StatusMethodNotAllowed, "UNSUPPORTED")
}

// goners is an Indexer that is told what was deleted.
type goners struct {
	noIndexer
	told []string
}

func (g *goners) Deleted(_ context.Context, repo oci.Repo, d digest.Digest) {
	g.told = append(g.told, repo.String()+"@"+d.String())
}

// TestDeletionIsTold: the indexer is told of a manifest that an upstream deleted, and
// neither of a tag, under which it may stay, nor of what was not deleted.
func TestDeletionIsTold(t *testing.T) {
	g := &goners{}
	front, _ := newLasting(t, func(o *Options) { o.Indexer = g })
	d := front.pushImage(t, "up/local/app", "v1", random(100, 1))
	for _, ref := range []string{"v1", d.String(), d.String()} {
		front.do(t, http.MethodDelete, "/v2/up/local/app/manifests/"+ref)
	}
	if want := []string{"up/local/app@" + d.String()}; !slices.Equal(g.told, want) {
		t.Errorf("told of %q, want %q", g.told, want)
	}
}

// TestPushBesideConverted: what is pushed under the tag of a converted image is
// what the tag means from then on.
func TestPushBesideConverted(t *testing.T) {
	front, host := newLasting(t, func(o *Options) { o.Converter = &converter{} })
	layer := random(100, 1)
	base := front.pushImage(t, "up/local/app", "v1", layer)
	source := string(host.do(t, http.MethodGet, "/v2/local/app/manifests/"+base.String()).body)
	made := front.convertIn(t, oci.Repo{Upstream: "up", Name: "local/app"}, "v1", source, image(oci.EmptyDigest, digest.FromString("made"), 4))
	path := "/v2/up/local/app/manifests/v1-soci"
	if a := front.do(t, http.MethodGet, path); a.header.Get("Docker-Content-Digest") != made.String() {
		t.Fatalf("ours: %d %s", a.status, a.header.Get("Docker-Content-Digest"))
	}
	own := front.pushImage(t, "up/local/app", "v1-soci", random(100, 2))
	if a := front.do(t, http.MethodGet, path); digest.FromBytes(a.body) != own {
		t.Errorf("after a push of %s: %d, %s", own, a.status, digest.FromBytes(a.body))
	}
}

// TestReferrersOfDeleted: of an image that was deleted there is still a list, what the
// upstream has in it, and of one that never was.
func TestReferrersOfDeleted(t *testing.T) {
	front, _ := newLasting(t, func(o *Options) { o.Referrers = tellsAll{[]byte("with ours")} })
	d := front.pushImage(t, "up/local/app", "v1", random(100, 1))
	path := "/v2/up/local/app/referrers/" + d.String()
	list := func(what, path, want string) {
		t.Helper()
		if a := front.do(t, http.MethodGet, path); a.status != http.StatusOK || string(a.body) != want {
			t.Errorf("%s: %d %s, want 200 %s", what, a.status, a.body, want)
		}
	}
	list("before", path, "with ours")
	list("elsewhere", "/v2/up/local/other/referrers/"+d.String(), "theirs")
	if a := front.do(t, http.MethodDelete, "/v2/up/local/app/manifests/"+d.String()); a.status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	list("deleted", path, "theirs")
}
