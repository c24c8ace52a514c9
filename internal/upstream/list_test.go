package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

func referrer(n int, artifactType string) v1.Descriptor {
	return v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, ArtifactType: artifactType,
		Digest: digest.FromString(strconv.Itoa(n)), Size: int64(n),
	}
}

func index(list ...v1.Descriptor) []byte {
	if list == nil {
		list = []v1.Descriptor{}
	}
	b, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: list,
	})
	if err != nil {
		panic(err)
	}
	return b
}

func TestReferrers(t *testing.T) {
	subject := digest.FromString("subject")
	soci, sig := referrer(1, oci.MediaTypeSOCIIndexV1), referrer(2, "application/vnd.example.signature")
	third := referrer(3, oci.MediaTypeSOCIIndexV1)
	send := func(w http.ResponseWriter, b []byte) {
		w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
		_, _ = w.Write(b)
	}
	api := func(answer func(w http.ResponseWriter, r *http.Request)) func(*registry) {
		return func(reg *registry) {
			reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/referrers/"+subject.String()) {
					return false
				}
				answer(w, r)
				return true
			}
		}
	}
	fallback := func(b []byte) func(*registry) {
		return func(reg *registry) { reg.manifests["sha256-"+subject.Encoded()] = b }
	}
	paged := func(next func(r *http.Request, page int) string) func(*registry) {
		return api(func(w http.ResponseWriter, r *http.Request) {
			page, _ := strconv.Atoi(r.URL.Query().Get("page"))
			if l := next(r, page); l != "" {
				w.Header().Add("Link", `</ignored>; rel="prev", <`+l+`>; rel="next"`)
			}
			send(w, index([]v1.Descriptor{soci, sig, third}[min(page, 2)]))
		})
	}
	for _, tc := range []struct {
		name   string
		setUp  func(*registry)
		filter string
		want   []v1.Descriptor
		check  func(error) bool // nil: no error
	}{
		{"api", api(func(w http.ResponseWriter, _ *http.Request) { send(w, index(soci, sig)) }), "", []v1.Descriptor{soci, sig}, nil},
		{"api, empty", api(func(w http.ResponseWriter, _ *http.Request) { send(w, index()) }), "", nil, nil},
		{"api that doesn't filter", api(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("artifactType") != oci.MediaTypeSOCIIndexV1 {
				t.Errorf("asked for %v", r.URL.Query())
			}
			send(w, index(soci, sig))
		}), oci.MediaTypeSOCIIndexV1, []v1.Descriptor{soci}, nil},
		{"pages", paged(func(r *http.Request, page int) string {
			return []string{"?page=1", "http://" + r.Host + r.URL.Path + "?page=2", ""}[page]
		}), "", []v1.Descriptor{soci, sig, third}, nil},
		{"endless pages", paged(func(r *http.Request, page int) string { return fmt.Sprintf("?page=%d", page+1) }), "", nil, is[*ProtocolError]},
		{"page of another host", paged(func(*http.Request, int) string { return "http://other.example/v2/" }), "", nil, is[*ProtocolError]},
		{"page of another repository", paged(func(*http.Request, int) string {
			return "/v2/secret/referrers/" + subject.String()
		}), "", nil, is[*ProtocolError]},
		{"page that is none", paged(func(*http.Request, int) string { return "http://[" }), "", nil, is[*ProtocolError]},
		{"fallback", fallback(index(soci, sig)), "", []v1.Descriptor{soci, sig}, nil},
		{"fallback, filtered", fallback(index(soci, sig)), sig.ArtifactType, []v1.Descriptor{sig}, nil},
		{"none", func(*registry) {}, "", nil, nil},
		{"no api, but a page for humans", api(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<html>"))
		}), "", nil, nil},
		{"no api, another way", api(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(405) }), "", nil, nil},
		{"fallback that is an image", fallback([]byte(manifestBody)), "", nil, nil},
		{"fallback that is nothing", fallback([]byte("{")), "", nil, is[*ProtocolError]},
		{"not an index", api(func(w http.ResponseWriter, _ *http.Request) { send(w, []byte("[")) }), "", nil, is[*ProtocolError]},
		{"bad descriptor", api(func(w http.ResponseWriter, _ *http.Request) {
			send(w, []byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:x","size":1}]}`))
		}), "", nil, is[*ProtocolError]},
		{"huge", api(func(w http.ResponseWriter, _ *http.Request) { send(w, make([]byte, oci.MaxManifestBytes+1)) }), "", nil, is[*ProtocolError]},
		{"denied", api(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }), "", nil, IsDenied},
		{"down", api(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), "", nil, IsUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := newRegistry(t)
			tc.setUp(reg)
			got, err := newClient(t, reg.URL).Referrers(t.Context(), repo, subject, tc.filter)
			if tc.check == nil && err != nil || tc.check != nil && !tc.check(err) {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := len(reg.requests()); n > maxReferrersPages+1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestReferrersTag(t *testing.T) {
	d := digest.SHA512.FromString("x")
	if got, want := ReferrersTag(d), "sha512-"+d.Encoded()[:64]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := oci.ParseReference(ReferrersTag(d)); err != nil {
		t.Error(err)
	}
}

func TestNextLink(t *testing.T) {
	for h, want := range map[string]string{
		"":                                      "",
		`</a>; rel="next"`:                      "/a",
		`</a>;rel=next`:                         "/a",
		`</a>; title="x"; REL="Next"`:           "/a",
		`</a>; rel="prev"`:                      "",
		`</a>; rel="prev", </b>; rel="next"`:    "/b",
		`</a>; rel="next", </b>; rel="last"`:    "/a",
		`</a?x=1,2;3>; rel="next"`:              "/a?x=1,2;3",
		`</a`:                                   "",
		`rel="next"`:                            "",
		`<>; rel="next"`:                        "",
		`</a>`:                                  "",
		`junk </a>; rel="last", </b>; rel=next`: "/b",
	} {
		if got := nextLink(http.Header{"Link": {h}}); got != want {
			t.Errorf("%s: got %q, want %q", h, got, want)
		}
	}
}

func FuzzNextLink(f *testing.F) {
	f.Add(`</a>; rel="prev", </b?n=1>; rel="next"`)
	f.Add(`<<>>;;rel=next`)
	f.Fuzz(func(t *testing.T, h string) {
		if got := nextLink(http.Header{"Link": {h}}); got != "" && !strings.Contains(h, "<"+got+">") {
			t.Errorf("%q is not a target in %q", got, h)
		}
	})
}

func TestTags(t *testing.T) {
	all := []string{"1", "2", "3", "4", "5"}
	send := func(w http.ResponseWriter, tags []string) {
		_ = json.NewEncoder(w).Encode(map[string]any{"name": repo, "tags": tags})
	}
	proper := func(w http.ResponseWriter, r *http.Request) {
		tags := all
		for i, tag := range all {
			if tag == r.URL.Query().Get("last") {
				tags = all[i+1:]
			}
		}
		if n, err := strconv.Atoi(r.URL.Query().Get("n")); err == nil && n < len(tags) {
			tags = tags[:n]
			w.Header().Set("Link", `</v2/x?last=`+tags[n-1]+`>; rel="next"`)
		}
		send(w, tags)
	}
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		n      int
		last   string
		want   []string
		more   bool
		check  func(error) bool
	}{
		{"all", proper, 0, "", all, false, nil},
		{"first two", proper, 2, "", []string{"1", "2"}, true, nil},
		{"behind", proper, 2, "2", []string{"3", "4"}, true, nil},
		{"rest", proper, 2, "4", []string{"5"}, false, nil},
		{"behind the last", proper, 2, "5", []string{}, false, nil},
		{"no paging", func(w http.ResponseWriter, _ *http.Request) { send(w, all) }, 2, "2", []string{"3", "4"}, true, nil},
		{"no paging, the end", func(w http.ResponseWriter, _ *http.Request) { send(w, all) }, 2, "3", []string{"4", "5"}, false, nil},
		{"null", func(w http.ResponseWriter, _ *http.Request) { send(w, nil) }, 0, "", nil, false, nil},
		{"not JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, 0, "", nil, false, is[*ProtocolError]},
		{"huge", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxTagsBytes+1)) }, 0, "", nil, false, is[*ProtocolError]},
		{"none", http.NotFound, 0, "", nil, false, IsNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := newRegistry(t)
			reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v2/"+repo+"/tags/list" {
					return false
				}
				tc.answer(w, r)
				return true
			}
			got, more, err := newClient(t, reg.URL).Tags(t.Context(), repo, tc.n, tc.last)
			if tc.check == nil && err != nil || tc.check != nil && !tc.check(err) {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || more != tc.more {
				t.Errorf("more %v, want %v (-want +got):\n%s", more, tc.more, diff)
			}
		})
	}
}
