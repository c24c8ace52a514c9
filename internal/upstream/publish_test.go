package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// referrerOf makes a SOCI index of a subject, told apart by n.
func referrerOf(subject []byte, n int) Referrer {
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"n":"%d"}}`,
		v1.MediaTypeImageManifest, oci.MediaTypeSOCIIndexV1, oci.EmptyDigest, v1.MediaTypeImageManifest, digest.FromBytes(subject), len(subject), n)
	return Referrer{
		Subject: digest.FromBytes(subject), Body: body, Descriptor: v1.Descriptor{
			MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body)), ArtifactType: oci.MediaTypeSOCIIndexV1,
		},
	}
}

const subjectBody = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

// TestPushReferrer: a referrer is listed once, by the API or under the fallback
// tag, beside what others have put there.
func TestPushReferrer(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("api %v", api), func(t *testing.T) {
			srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(api)))
			t.Cleanup(srv.Close)
			c := newClient(t, srv.URL)
			p := c.Publisher()
			empty := v1.Descriptor{Digest: oci.EmptyDigest, Size: 2}
			sent := 0
			open := func() (io.ReadCloser, error) {
				sent++
				return io.NopCloser(bytes.NewReader(oci.EmptyJSON)), nil
			}
			for range 2 {
				if err := p.PushBlob(t.Context(), repo, empty, open); err != nil {
					t.Fatal(err)
				}
			}
			if sent != 1 {
				t.Errorf("the blob was sent %d times", sent)
			}
			subject := []byte(subjectBody)
			if err := p.PushManifest(t.Context(), repo, oci.Reference{Tag: "1"}, v1.MediaTypeImageManifest, subject); err != nil {
				t.Fatal(err)
			}
			push := func(r Referrer) {
				t.Helper()
				fallback, err := p.PushReferrer(t.Context(), repo, r)
				if err != nil || fallback == api {
					t.Errorf("fallback %v, %v", fallback, err)
				}
			}
			theirs := referrerOf(subject, 0)
			theirs.Descriptor.Annotations = map[string]string{"kept": "yes"}
			first, second := referrerOf(subject, 1), referrerOf(subject, 2)
			push(theirs)
			push(first)
			push(first)
			listed := func() (ds []digest.Digest) {
				list, err := c.Referrers(t.Context(), repo, digest.FromBytes(subject), oci.MediaTypeSOCIIndexV1)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range list {
					ds = append(ds, d.Digest)
					if !api && d.Digest == theirs.Descriptor.Digest && d.Annotations["kept"] != "yes" {
						t.Errorf("an entry of others became %+v", d)
					}
				}
				slices.Sort(ds)
				return ds
			}
			want := func(rs ...Referrer) {
				t.Helper()
				var ds []digest.Digest
				for _, r := range rs {
					ds = append(ds, r.Descriptor.Digest)
				}
				slices.Sort(ds)
				if got := listed(); !slices.Equal(got, ds) {
					t.Errorf("listed are %v, want %v", got, ds)
				}
			}
			want(theirs, first)
			second.Replaces = []digest.Digest{first.Descriptor.Digest}
			push(second)
			for range 2 {
				if err := p.Unlist(t.Context(), repo, digest.FromBytes(subject), first.Descriptor.Digest, !api); err != nil {
					t.Errorf("unlist: %v", err)
				}
			}
			want(theirs, second)
			for _, r := range []Referrer{second, theirs} { // this registry keeps the tag
				if err := p.Unlist(t.Context(), repo, digest.FromBytes(subject), r.Descriptor.Digest, !api); err != nil {
					t.Errorf("unlist: %v", err)
				}
			}
			want()
		})
	}
}

// TestFallbackConflict: whoever writes the list at the same time loses nothing
// that is seen, and neither do we.
func TestFallbackConflict(t *testing.T) {
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	var heads, left atomic.Int64
	subject := []byte(subjectBody)
	tag := "/manifests/" + ReferrersTag(digest.FromBytes(subject))
	var other Publisher
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, tag) && r.Header.Get("X-Other") == "" && left.Add(-1) >= 0 {
			n := int(heads.Add(1)) // right before it is written, and right behind
			if _, err := other.PushReferrer(r.Context(), repo, referrerOf(subject, 100+n)); err != nil {
				t.Errorf("the other one: %v", err)
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	other = newClient(t, srv.URL, func(o *Options) { o.Header = http.Header{"X-Other": {"1"}} }).Publisher()
	c := newClient(t, srv.URL)
	p := c.Publisher()
	err := p.PushBlob(t.Context(), repo, v1.Descriptor{Digest: oci.EmptyDigest}, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(oci.EmptyJSON)), nil })
	if err == nil {
		err = p.PushManifest(t.Context(), repo, oci.Reference{Tag: "1"}, v1.MediaTypeImageManifest, subject)
	}
	if err != nil {
		t.Fatal(err)
	}
	left.Store(3)
	if fallback, err := p.PushReferrer(t.Context(), repo, referrerOf(subject, 1)); err != nil || !fallback {
		t.Fatalf("fallback %v, %v", fallback, err)
	}
	list, err := c.Referrers(t.Context(), repo, digest.FromBytes(subject), "")
	if err != nil || len(list) != 4 {
		t.Errorf("%d are listed, want all 4: %v", len(list), err)
	}
	// A tag that is something else is left alone.
	if err := p.PushManifest(t.Context(), repo, oci.Reference{Tag: ReferrersTag(digest.FromBytes(subject))}, v1.MediaTypeImageManifest, subject); err != nil {
		t.Fatal(err)
	}
	if _, err := p.PushReferrer(t.Context(), repo, referrerOf(subject, 2)); err == nil || !strings.Contains(err.Error(), "no list of referrers") {
		t.Errorf("over another manifest: %v", err)
	}
}

// TestTagListKeeps: what is not understood of a list is written as it was.
func TestTagListKeeps(t *testing.T) {
	l := tagList{rest: map[string]json.RawMessage{"annotations": json.RawMessage(`{"a":"b"}`), "x": json.RawMessage(`1.50`)}}
	body, err := l.with([]json.RawMessage{json.RawMessage(`{"digest":"d","size":1.0}`)})
	if want := `{"annotations":{"a":"b"},"manifests":[{"digest":"d","size":1.0}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2,"x":1.50}`; err != nil || string(body) != want {
		t.Errorf("%s, %v", body, err)
	}
}
