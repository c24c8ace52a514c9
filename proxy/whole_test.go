package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestMereBlobIsNoManifest: bytes that are a manifest in another repository are
// none here before they are pushed as one.
func TestMereBlobIsNoManifest(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	layer := random(100, 1)
	m := s.pushImage(t, "local/app", "v1", layer)
	body := s.do(t, http.MethodGet, "/v2/local/app/manifests/v1").body
	if a := s.send(t, http.MethodPost, "/v2/local/other/blobs/uploads/?from=local/app&mount="+m.String(), nil); a.status != http.StatusCreated {
		s.pushBlob(t, "local/other", body)
	}
	index := indexOf(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, v1.MediaTypeImageManifest, m, len(body)))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if a := s.do(t, method, "/v2/local/other/manifests/"+m.String()); a.status != http.StatusNotFound {
			t.Errorf("%s of a mere blob: %d", method, a.status)
		}
	}
	put := func(repo string) answer {
		return s.send(t, http.MethodPut, "/v2/"+repo+"/manifests/all", strings.NewReader(index), "Content-Type", v1.MediaTypeImageIndex)
	}
	wantCode(t, "an index of it", put("local/other"), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	if a := put("local/app"); a.status != http.StatusCreated {
		t.Errorf("where it is a manifest: %d %s", a.status, a.body)
	}
}

// TestImmutableNesting: an image of an immutable index stays, however deep it is.
func TestImmutableNesting(t *testing.T) {
	s := newHost(t, Hosting{Immutable: func(_, tag string) bool { return tag == "v1" }}, nil)
	child := s.pushImage(t, "local/app", "latest", random(100, 1))
	d, size, kind := child, len(s.do(t, http.MethodGet, "/v2/local/app/manifests/latest").body), v1.MediaTypeImageManifest
	for i := range 7 {
		body := indexOf(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, kind, d, size))
		ref := digest.FromString(body).String()
		if i == 6 {
			ref = "v1"
		}
		d, size, kind = s.putIndex(t, "local/app", ref, body), len(body), v1.MediaTypeImageIndex
	}
	wantCode(t, "delete", s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+child.String()), http.StatusForbidden, "DENIED")
}

// TestChunkShort: a chunk without a length that is not what its range says.
func TestChunkShort(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	loc := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
	body := random(100, 1)
	a := s.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(body[:50])), "Content-Range", "0-99")
	wantCode(t, "short", a, http.StatusBadRequest, "SIZE_INVALID")
	if at := s.do(t, http.MethodGet, loc).header.Get("Range"); at != "0-49" {
		t.Errorf("it goes on behind %s, want 0-49", at)
	}
	if a := s.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(body[50:])), "Content-Range", "50-99"); a.status != http.StatusAccepted {
		t.Errorf("the rest: %d %s", a.status, a.body)
	}
}

// TestLargeManifestIsTold: a client that sends all of it before it reads sees why.
func TestLargeManifestIsTold(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	for name, body := range map[string]io.Reader{
		"with a length": strings.NewReader(strings.Repeat(" ", 10<<20)), "streamed": io.MultiReader(strings.NewReader(strings.Repeat(" ", 10<<20))),
	} {
		a := s.send(t, http.MethodPut, "/v2/local/app/manifests/v1", body, "Content-Type", v1.MediaTypeImageManifest)
		wantCode(t, name, a, http.StatusRequestEntityTooLarge, "SIZE_INVALID")
		if a.header.Get("Connection") == "close" {
			t.Errorf("%s: the connection is closed under a client that sends", name)
		}
	}
}

// filesAll notes what is told of.
type filesAll struct {
	noEvents
	got []oci.Event
}

func (f *filesAll) File(_ storage.EventTx, e oci.Event) error { f.got = append(f.got, e); return nil }

// TestEventReferencesBounded: what an event says of a manifest is bounded, and
// said once, under however many tags it comes.
func TestEventReferencesBounded(t *testing.T) {
	told := &filesAll{}
	s := newHost(t, Hosting{}, func(o *Options) { o.Events = told })
	child := s.pushImage(t, "local/app", "latest", random(100, 1))
	size := len(s.do(t, http.MethodGet, "/v2/local/app/manifests/latest").body)
	one := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"a":"any length"}}`, v1.MediaTypeImageManifest, child, size)
	body := indexOf(strings.TrimSuffix(strings.Repeat(one+",", 150), ","))
	told.got = nil
	s.putIndex(t, "local/app", digest.FromString(body).String()+"?tag=a&tag=b", body)
	var n []int
	for _, e := range told.got {
		n = append(n, len(e.References))
		for _, d := range e.References {
			if d.Annotations != nil {
				t.Fatalf("an event says what somebody wrote into a descriptor: %+v", d)
			}
		}
	}
	if len(n) != 2 || n[0] != 100 || n[1] != 0 {
		t.Errorf("events have %v references, want 100 and 0", n)
	}
}
