package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// TestDeleteMadeHere: what was made here and can be read is not said to be unknown to
// whoever wants to delete it; what was pushed is deleted.
func TestDeleteMadeHere(t *testing.T) {
	convert := func(o *Options) { o.Converter = &converter{} }
	host := newHost(t, Hosting{}, nil)
	for name, c := range map[string]struct {
		s    *server
		repo oci.Repo
	}{
		"hosted":         {newHost(t, Hosting{}, convert), oci.Repo{Upstream: "local", Name: "a"}},
		"of an upstream": {newServer(t, &registry{Server: host.Server}, func(o *Options) { convert(o); o.Upstreams[0].PushThrough = true }), oci.Repo{Upstream: "up", Name: "local/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, base := c.s, "/v2/"+c.repo.String()+"/"
			x := newMadeImage(t, s, c.repo.String())
			s.convertIn(t, c.repo, "1", x.source, x.imageSet)
			hosted := c.repo.Upstream == "local"
			set := digest.FromString(x.imageSet).String()
			wantFixed := func(path, words string) {
				t.Helper()
				if a := s.do(t, http.MethodGet, base+path); a.status != http.StatusOK {
					t.Fatalf("%s: %d %s", path, a.status, a.body)
				}
				a := s.do(t, http.MethodDelete, base+path)
				wantCode(t, path, a, http.StatusMethodNotAllowed, "UNSUPPORTED")
				if !strings.Contains(string(a.body), words) || a.header.Get("Allow") == "" {
					t.Errorf("%s: %s, Allow %q", path, a.body, a.header.Get("Allow"))
				}
			}
			wantFixed("manifests/1-soci", "`sociable index rm "+c.repo.String()+":1`")
			wantFixed("manifests/"+set, "made here of "+digest.FromString(x.source).String())
			zTOC := "blobs/" + digest.FromBytes(x.zTOC).String()
			if hosted {
				wantFixed(zTOC, "made here of "+digest.FromBytes(x.layer).String())
			}
			for _, path := range []string{"manifests/2-soci", "manifests/" + digest.FromString("none").String(), "manifests/none"} {
				wantCode(t, path, s.do(t, http.MethodDelete, base+path), http.StatusNotFound, "MANIFEST_UNKNOWN")
			}
			wantCode(t, "elsewhere", s.do(t, http.MethodDelete, strings.Replace(base, "/a/", "/b/", 1)+"manifests/"+set), http.StatusNotFound, "MANIFEST_UNKNOWN")

			// Pushed, too: then that is deleted.
			if a := x.copyTo(t, s, c.repo.String(), "1-soci"); a.status != http.StatusCreated {
				t.Fatalf("copy: %d %s", a.status, a.body)
			}
			paths := []string{"manifests/1-soci", "manifests/" + set}
			if hosted {
				paths = append(paths, zTOC)
			}
			for _, path := range paths {
				if a := s.do(t, http.MethodDelete, base+path); a.status != http.StatusAccepted {
					t.Errorf("pushed %s: %d %s", path, a.status, a.body)
				}
			}
			wantFixed("manifests/"+set, "made here")
		})
	}
}

// TestDeleteConvertedInPlace: where a tag is served with the digest of the converted
// image, to delete that digest deletes the image, as with any other.
func TestDeleteConvertedInPlace(t *testing.T) {
	convert := func(o *Options) { o.Converter = &converter{inPlace: true} }
	host := newHost(t, Hosting{}, nil)
	for name, c := range map[string]struct {
		s    *server
		repo oci.Repo
	}{
		"hosted":         {newHost(t, Hosting{}, convert), oci.Repo{Upstream: "local", Name: "a"}},
		"of an upstream": {newServer(t, &registry{Server: host.Server}, func(o *Options) { convert(o); o.Upstreams[0].PushThrough = true }), oci.Repo{Upstream: "up", Name: "local/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, base := c.s, "/v2/"+c.repo.String()+"/manifests/"
			x := newMadeImage(t, s, c.repo.String())
			d := s.convertIn(t, c.repo, "1", x.source, x.imageSet)
			a := s.do(t, http.MethodHead, base+"1")
			if got := a.header.Get("Docker-Content-Digest"); got != d.String() {
				t.Fatalf("the tag leads to %s, want %s", got, d)
			}
			part := s.do(t, http.MethodDelete, base+digest.FromString(x.soci).String())
			wantCode(t, "a part of it", part, http.StatusMethodNotAllowed, "UNSUPPORTED")
			if a := s.do(t, http.MethodDelete, base+d.String()); a.status != http.StatusAccepted {
				t.Fatalf("delete: %d %s", a.status, a.body)
			}
			for _, ref := range []string{"1", d.String(), digest.FromString(x.source).String()} {
				wantCode(t, ref, s.do(t, http.MethodGet, base+ref), http.StatusNotFound, "MANIFEST_UNKNOWN")
				wantCode(t, "delete "+ref, s.do(t, http.MethodDelete, base+ref), http.StatusNotFound, "MANIFEST_UNKNOWN")
			}
		})
	}
}
