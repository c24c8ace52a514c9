package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

const manifestBody = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`

var (
	manifestSHA256 = digest.FromString(manifestBody)
	manifestSHA512 = digest.SHA512.FromString(manifestBody)
)

// answering serves manifestBody with what headers set, HEAD included.
func answering(reg *registry, header map[string]string) {
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(manifestBody)))
		w.Header()["Content-Type"] = nil
		for k, v := range header {
			if k == "Content-Length" && r.Method == http.MethodGet {
				continue
			}
			w.Header().Set(k, v)
		}
		if r.Method == http.MethodHead && header["Content-Length"] == "none" {
			w.Header()["Content-Length"] = nil
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, manifestBody)
		return true
	}
}

func TestManifest(t *testing.T) {
	desc := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: manifestSHA256, Size: int64(len(manifestBody))}
	desc512 := desc
	desc512.Digest = manifestSHA512
	untyped := desc
	untyped.MediaType = ""
	typed := func(kv ...string) map[string]string {
		h := map[string]string{"Content-Type": "Application/vnd.oci.image.manifest.v1+json; charset=utf-8"}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i]] = kv[i+1]
		}
		return h
	}
	other := digest.FromString("other").String()
	for _, tc := range []struct {
		name       string
		ref        oci.Reference
		header     map[string]string
		get, head  v1.Descriptor // Digest "": ErrDigest
		headAsGets int           // GETs that a HeadManifest falls back to
	}{
		{"tag", tag("v1"), typed("Docker-Content-Digest", manifestSHA256.String()), desc, desc, 0},
		{"tag, sha512", tag("v1"), typed("Docker-Content-Digest", manifestSHA512.String()), desc512, desc512, 0},
		{"tag, no digest", tag("v1"), typed(), desc, desc, 1},
		{"tag, no known digest", tag("v1"), typed("Docker-Content-Digest", "md5:abc"), desc, desc, 1},
		{"tag, no size", tag("v1"), typed("Docker-Content-Digest", manifestSHA256.String(), "Content-Length", "none"), desc, desc, 1},
		{"tag, no type", tag("v1"), map[string]string{"Docker-Content-Digest": manifestSHA256.String()}, untyped, untyped, 0},
		{"tag, another digest", tag("v1"), typed("Docker-Content-Digest", other),
			v1.Descriptor{}, v1.Descriptor{MediaType: desc.MediaType, Digest: digest.Digest(other), Size: desc.Size}, 0},
		{"digest", oci.Reference{Digest: manifestSHA256}, typed(), desc, desc, 0},
		{"digest, sha512", oci.Reference{Digest: manifestSHA512}, typed("Docker-Content-Digest", manifestSHA256.String()), desc512, desc512, 0},
		{"digest, another digest", oci.Reference{Digest: manifestSHA256}, typed("Docker-Content-Digest", other), desc, v1.Descriptor{}, 0},
		{"digest, other bytes", oci.Reference{Digest: digest.Digest(other)}, typed(),
			v1.Descriptor{}, v1.Descriptor{MediaType: desc.MediaType, Digest: digest.Digest(other), Size: desc.Size}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := newRegistry(t)
			answering(reg, tc.header)
			c := newClient(t, reg.URL)
			m, err := c.Manifest(t.Context(), repo, tc.ref)
			if tc.get.Digest == "" {
				if !errors.Is(err, ErrDigest) || IsNotFound(err) || IsDenied(err) {
					t.Errorf("Manifest: got %v, want ErrDigest", err)
				}
			} else if err != nil {
				t.Errorf("Manifest: %v", err)
			} else if diff := cmp.Diff(&Manifest{Descriptor: tc.get, Body: []byte(manifestBody)}, m); diff != "" {
				t.Errorf("Manifest (-want +got):\n%s", diff)
			}
			before := reg.count("/manifests/")
			got, err := c.HeadManifest(t.Context(), repo, tc.ref)
			if tc.head.Digest == "" {
				if !errors.Is(err, ErrDigest) {
					t.Errorf("HeadManifest: got %v, want ErrDigest", err)
				}
			} else if diff := cmp.Diff(tc.head, got); err != nil || diff != "" {
				t.Errorf("HeadManifest: %v (-want +got):\n%s", err, diff)
			}
			if n := reg.count("/manifests/") - before - 1; n != tc.headAsGets {
				t.Errorf("HeadManifest fell back to %d GETs, want %d", n, tc.headAsGets)
			}
			if a := reg.requests()[1].Header.Get("Accept"); a != strings.Join(oci.ManifestTypes, ", ") {
				t.Errorf("asked for %q", a)
			}
		})
	}
}

func TestManifestFaults(t *testing.T) {
	huge := strings.Repeat("x", oci.MaxManifestBytes+1)
	for _, tc := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request, n int)
		check func(error) bool
		tries int // -1: as many as there is time for
	}{
		{"not found", func(w http.ResponseWriter, r *http.Request, _ int) {
			refuse(w, 404, "MANIFEST_UNKNOWN", "no such tag")
		}, IsNotFound, 1},
		{"denied", func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(403) }, IsDenied, 1},
		{"huge, announced", func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<40))
			_ = http.NewResponseController(w).Flush()
		}, is[*ProtocolError], 1},
		{"huge, not announced", func(w http.ResponseWriter, r *http.Request, _ int) {
			_, _ = io.WriteString(w, huge)
		}, is[*ProtocolError], 1},
		{"cut", func(w http.ResponseWriter, r *http.Request, n int) {
			cutBody := &cutWriter{w, 10}
			if n < 3 {
				w.Header().Set("Content-Length", strconv.Itoa(len(manifestBody)))
				_, _ = io.WriteString(cutBody, manifestBody)
			}
			_, _ = io.WriteString(w, manifestBody)
		}, func(err error) bool { return err == nil }, 4},
		{"always cut", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Length", strconv.Itoa(len(manifestBody)))
			_, _ = io.WriteString(&cutWriter{w, 10}, manifestBody)
		}, IsUnavailable, 4},
		{"stalls in the body", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Length", "10")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, func(err error) bool { return IsUnavailable(err) && errors.Is(err, errStalled) }, 4},
		{"says nothing", func(w http.ResponseWriter, r *http.Request, n int) {
			<-r.Context().Done()
		}, func(err error) bool { return IsUnavailable(err) && errors.Is(err, errNoHeaders) }, -1},
		{"throttled for long", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(429)
		}, func(err error) bool { return IsUnavailable(err) && IsThrottled(err) && !IsDenied(err) }, 1},
		{"throttled a moment", func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(429)
			}
			_, _ = io.WriteString(w, manifestBody)
		}, func(err error) bool { return err == nil }, 2},
		{"broken", func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(500) }, IsUnavailable, 4},
		{"not implemented", func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(501) }, IsUnavailable, 1},
		{"not HTTP", func(w http.ResponseWriter, r *http.Request, n int) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n")
				_ = conn.Close()
			}
		}, IsUnavailable, 4},
		{"endless headers", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("X-Long", huge)
		}, IsUnavailable, 4},
		{"not modified", func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(304) },
			func(err error) bool { s, ok := errors.AsType[*StatusError](err); return ok && s.Status == 304 }, 1},
		{"endless refusal", func(w http.ResponseWriter, r *http.Request, n int) {
			w.WriteHeader(404)
			for {
				if _, err := io.WriteString(w, huge); err != nil {
					return
				}
			}
		}, IsNotFound, 1},
		{"loud refusal", func(w http.ResponseWriter, r *http.Request, n int) {
			refuse(w, 404, "lower case\\r\\n", strings.Repeat("é", 300))
		}, func(err error) bool {
			s, ok := errors.AsType[*StatusError](err)
			return ok && s.Code == "MANIFEST_UNKNOWN" && len(s.Message) <= maxErrorMessage+2
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := newRegistry(t)
			var n atomic.Int32
			reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				tc.fault(w, r, int(n.Add(1))-1)
				return true
			}
			c := newClient(t, reg.URL, func(o *Options) {
				if strings.Contains(tc.name, "stalls") {
					o.StallTimeout = 0x1p20
				}
				if strings.Contains(tc.name, "says nothing") {
					o.HeaderTimeout = 1e7
				}
			})
			if _, err := c.ends[0].auth.discover(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := c.Manifest(t.Context(), repo, tag("v1"))
			if !tc.check(err) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "http://") {
				t.Errorf("the error tells a URL: %v", err)
			}
			if got := int(n.Load()); got != tc.tries && tc.tries >= 0 {
				t.Errorf("asked %d times, want %d", got, tc.tries)
			}
			if c.all.inUse() != 0 {
				t.Errorf("%d slots are still taken", c.all.inUse())
			}
		})
	}
}

func TestHeadWhereThereIsNone(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		reg := newRegistry(t)
		reg.manifests["v1"] = []byte(manifestBody)
		d, empty := reg.addBlob([]byte("12345")), reg.addBlob(nil)
		reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(status)
			}
			return r.Method == http.MethodHead
		}
		c := newClient(t, reg.URL)
		if m, err := c.HeadManifest(t.Context(), repo, tag("v1")); err != nil || m.Digest != manifestSHA256 {
			t.Errorf("%d: got %v, %v", status, m, err)
		}
		if _, err := c.HeadManifest(t.Context(), repo, tag("v2")); !IsNotFound(err) {
			t.Errorf("%d: got %v", status, err)
		}
		if n, err := c.HeadBlob(t.Context(), repo, d); err != nil || n != 5 {
			t.Errorf("%d: got %d, %v", status, n, err)
		}
		if n, err := c.HeadBlob(t.Context(), repo, empty); err != nil || n != 0 {
			t.Errorf("%d: got %d, %v for the empty blob", status, n, err)
		}
		if n, err := c.HeadBlob(t.Context(), repo, digest.FromString("none")); !IsNotFound(err) {
			t.Errorf("%d: got %d, %v for no blob", status, n, err)
		}
	}
}

// A signed URL that is good for GET says nothing to HEAD.
func TestHeadBlobBehindARedirect(t *testing.T) {
	reg, storage := newRegistry(t), newRegistry(t)
	d := storage.addBlob([]byte("12345"))
	storage.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
		}
		return r.Method == http.MethodHead
	}
	redirecting(reg, func(r *http.Request) string { return storage.URL + r.URL.Path })
	if n, err := newClient(t, reg.URL).HeadBlob(t.Context(), repo, d); err != nil || n != 5 {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	reg := newRegistry(t)
	c := newClient(t, reg.URL)
	d := manifestSHA256
	for _, repo := range []string{"", "../etc", "a/../b", "A", "a//b", "a?b", "a%2f..", "a b", strings.Repeat("a", 256)} {
		for what, err := range map[string]error{
			"manifest":  second(c.Manifest(t.Context(), repo, tag("v1"))),
			"head":      second(c.HeadManifest(t.Context(), repo, tag("v1"))),
			"blob":      second(c.Blob(t.Context(), repo, d, oci.Range{Off: 0, End: -1})),
			"head blob": second(c.HeadBlob(t.Context(), repo, d)),
			"referrers": second(c.Referrers(t.Context(), repo, d, "")),
		} {
			if err == nil {
				t.Errorf("%s: repository %q is accepted", what, repo)
			}
		}
		if _, _, err := c.Tags(t.Context(), repo, 0, ""); err == nil {
			t.Errorf("tags: repository %q is accepted", repo)
		}
	}
	for _, bad := range []digest.Digest{"", "sha256:../../x", "sha256:ABC", "md5:abc", digest.Digest("sha256:" + strings.Repeat("A", 64))} {
		for what, err := range map[string]error{
			"manifest":  second(c.Manifest(t.Context(), repo, oci.Reference{Digest: bad})),
			"blob":      second(c.Blob(t.Context(), repo, bad, oci.Range{Off: 0, End: -1})),
			"head blob": second(c.HeadBlob(t.Context(), repo, bad)),
			"referrers": second(c.Referrers(t.Context(), repo, bad, "")),
		} {
			if err == nil {
				t.Errorf("%s: digest %q is accepted", what, bad)
			}
		}
	}
	if _, err := c.Manifest(t.Context(), repo, tag("../v1")); err == nil {
		t.Error("a tag with slashes is accepted")
	}
	for _, r := range []oci.Range{{}, {Off: 5, End: 5}, {Off: 5, End: 1}, {Off: -1, End: 5}} {
		if _, err := c.Blob(t.Context(), repo, d, r); err == nil {
			t.Errorf("range %v is accepted", r)
		}
	}
	if n := len(reg.requests()); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

func second[T any](_ T, err error) error { return err }
