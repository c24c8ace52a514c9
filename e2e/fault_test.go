package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// outcome is what a client may see of a cold blob whose upstream is faulty.
type outcome int

const (
	complete outcome = iota // every byte, and right
	broken                  // an error, or a body that ends early; never a clean end
)

// TestFaultyBlobs pulls a cold blob from an upstream that misbehaves. Whatever
// happens, nobody gets a complete wrong body; once the upstream is well again
// the blob is.
func TestFaultyBlobs(t *testing.T) {
	layer := suite.Set.Layers[realimage.LayerCerts]
	half := layer.Size / 2
	get := link.All(link.Method(http.MethodGet), link.Blob(layer.Digest))
	resume := link.All(get, link.Ranged)
	for _, test := range []struct {
		name   string
		faults []link.Fault
		want   outcome
		status int // where it isn't a 200
		code   string
		// check looks at the upstream's requests for the blob.
		check func(rs []link.Request) error
	}{
		{name: "wrong byte", faults: []link.Fault{{On: get, WrongBytes: []int64{half}}}, want: broken},
		{name: "wrong last byte", faults: []link.Fault{{On: get, WrongBytes: []int64{layer.Size - 1}}}, want: broken},
		{name: "wrong first byte", faults: []link.Fault{{On: get, WrongBytes: []int64{0}}}, want: broken},
		{name: "too short, cleanly", faults: []link.Fault{{On: get, Cut: half, Ends: link.Short}}, want: broken},
		{name: "cut once", faults: []link.Fault{{On: get, Times: 1, Cut: half, Ends: link.Close}}, check: resumedAt(half, layer.Size)},
		{name: "reset once", faults: []link.Fault{{On: get, Times: 1, Cut: half, Ends: link.Reset}}, check: resumedAt(-1, layer.Size)},
		{name: "stalled once", faults: []link.Fault{{On: get, Times: 1, Cut: half, Ends: link.Stall}}, check: resumedAt(half, layer.Size)},
		{name: "cut three times", faults: []link.Fault{{On: get, Times: 3, Cut: layer.Size / 5, Ends: link.Close}}},
		{name: "cut always, no ranges", faults: []link.Fault{{On: get, NoRange: true, Cut: half, Ends: link.Close}}, want: broken},
		{name: "cut at once, always", faults: []link.Fault{{On: get, Ends: link.Close}}, want: broken},
		{name: "refused always", faults: []link.Fault{{On: link.Blob(layer.Digest), Refuse: true}}, want: broken, status: http.StatusServiceUnavailable, code: "UNAVAILABLE"},
		{name: "resumed with another range", faults: []link.Fault{
			{On: get, Times: 1, Cut: half, Ends: link.Close},
			{On: resume, Header: http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", half-7, layer.Size-1, layer.Size)}}},
		}, want: broken},
		{name: "resumed with the whole", faults: []link.Fault{
			{On: get, Times: 1, Cut: half, Ends: link.Close},
			{On: resume, NoRange: true},
		}},
		{name: "no length", faults: []link.Fault{{On: get, Framing: link.Chunked}}},
		{name: "no length, until EOF", faults: []link.Fault{{On: get, Framing: link.UntilEOF}}},
		{name: "no length, cut at EOF", faults: []link.Fault{{On: get, Framing: link.UntilEOF, Cut: half, Ends: link.Close}}, want: broken},
		{name: "not there", faults: []link.Fault{{On: link.Blob(layer.Digest), Status: http.StatusNotFound}}, want: broken, status: http.StatusNotFound, code: "BLOB_UNKNOWN"},
		{name: "error", faults: []link.Fault{{On: link.Blob(layer.Digest), Status: http.StatusInternalServerError}}, want: broken, status: http.StatusServiceUnavailable, code: "UNAVAILABLE"},
		{name: "error once", faults: []link.Fault{{On: get, Times: 1, Status: http.StatusBadGateway}}},
		{name: "too many requests", faults: []link.Fault{{On: link.Blob(layer.Digest), Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"17"}}}},
			want: broken, status: http.StatusTooManyRequests, code: "TOOMANYREQUESTS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startProxyWith(t, suite.Registry.URL(), link.Options{}, []string{setting("stall_timeout", "500ms")})
			p.link.Inject(test.faults...)
			i := image(t, realimage.ImageToolchain)
			path := blobPath(i.Repo(), layer.Digest)
			a, err := p.download(t.Context(), path, layer.Digest)
			switch {
			case errors.Is(err, errWrongBody):
				t.Fatalf("the client got %v", err)
			case a == nil:
				t.Fatalf("no answer: %v", err)
			case test.want == complete && err != nil:
				t.Errorf("the client got %v, want the blob", err)
			case test.want == broken && err == nil:
				t.Error("the client got the blob, want an error")
			case test.status != 0:
				p.checkRefusal(t, path, test.status, test.code)
			}
			if test.check != nil {
				if err := test.check(p.link.Requests(get)); err != nil {
					t.Error(err)
				}
			}
			p.checkHealed(t, path, layer.Digest, err == nil)
		})
	}
}

// resumedAt wants a second request that goes on where the first broke off, -1
// for anywhere behind the start, and hardly a byte twice.
func resumedAt(off, size int64) func([]link.Request) error {
	return func(rs []link.Request) error {
		if len(rs) != 2 {
			return fmt.Errorf("%d requests, want the first and one that resumes: %v", len(rs), rs)
		}
		var from int64
		if _, err := fmt.Sscanf(rs[1].Range, "bytes=%d-", &from); err != nil || from <= 0 || off >= 0 && from != off {
			return fmt.Errorf("resumed with Range %q, want it from %d", rs[1].Range, off)
		}
		if sum := rs[0].Sent + rs[1].Sent; off >= 0 && sum != size {
			return fmt.Errorf("%d bytes in all for a blob of %d", sum, size)
		}
		return nil
	}
}

// checkRefusal looks at an error answer that is due.
func (p *proxy) checkRefusal(t *testing.T, path string, status int, code string) {
	t.Helper()
	a := p.get(t, path)
	if a.StatusCode != status || a.code() != code {
		t.Errorf("GET: %s with code %q, want %d %s\n%s", a.Status, a.code(), status, code, a.body)
	}
	if status == http.StatusTooManyRequests && a.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
}

// checkHealed pulls again from a good upstream: whole and right, from the store
// only if it was stored before.
func (p *proxy) checkHealed(t *testing.T, path string, d digest.Digest, stored bool) {
	t.Helper()
	p.link.Heal()
	p.link.Forget()
	var err error
	eventually(t, 20*time.Second, "the blob from a good upstream", func() bool { // a breaker may be open
		_, err = p.download(t.Context(), path, d)
		if errors.Is(err, errWrongBody) {
			t.Fatal(err)
		}
		return err == nil
	})
	asked := len(p.link.Requests(link.Method(http.MethodGet), link.Blob(d))) > 0
	if asked == stored {
		t.Errorf("upstream asked again: %v, want %v", asked, !stored)
	}
}

// TestWrongDigestIsCounted: an operator sees it, and the next client is not
// served from what was received.
func TestWrongDigestIsCounted(t *testing.T) {
	p := startProxy(t, link.Options{})
	layer := suite.Set.Layers[realimage.LayerCerts]
	i := image(t, realimage.ImageToolchain)
	path := blobPath(i.Repo(), layer.Digest)
	before := p.mismatches(t)
	p.link.Inject(link.Fault{On: link.Blob(layer.Digest), WrongBytes: []int64{1000}})
	for range 2 {
		if _, err := p.download(t.Context(), path, layer.Digest); err == nil || errors.Is(err, errWrongBody) {
			t.Errorf("the client got %v, want a short body", err)
		}
	}
	if got := p.mismatches(t); got <= before {
		t.Errorf("mismatches counted: %v before, %v after", before, got)
	}
	if !strings.Contains(p.Log(), layer.Digest.String()) {
		t.Error("the log does not name the digest")
	}
}

var mismatchMetric = regexp.MustCompile(`^sociable_\w*_digest_mismatches_total\b`)

// mismatches is the sum of the counters of bytes that were not what their digest says.
func (p *proxy) mismatches(t *testing.T) (n float64) {
	t.Helper()
	samples, err := p.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range samples {
		if mismatchMetric.MatchString(name) {
			n += v
		}
	}
	return n
}

// TestFaultyManifests: manifests are verified like blobs.
func TestFaultyManifests(t *testing.T) {
	i := image(t, realimage.ImageSmall)
	for _, test := range []struct {
		name  string
		fault link.Fault
		refs  []string
	}{
		{"wrong byte", link.Fault{WrongBytes: []int64{i.Size - 10}}, []string{"1", i.Digest.String()}},
		{"too short, cleanly", link.Fault{Cut: i.Size / 2, Ends: link.Short}, []string{"1", i.Digest.String()}},
		{"cut", link.Fault{Cut: i.Size / 2, Ends: link.Close}, []string{"1", i.Digest.String()}},
	} {
		for _, ref := range test.refs {
			t.Run(fmt.Sprintf("%s/%.10s", test.name, ref), func(t *testing.T) {
				p := startProxy(t, link.Options{})
				test.fault.On = link.All(link.Method(http.MethodGet), link.Manifest())
				p.link.Inject(test.fault)
				path := manifestPath(i.Repo(), ref)
				if a := p.get(t, path, "Accept", i.MediaType); a.err == nil && a.StatusCode < 500 {
					t.Errorf("GET: %s, %d bytes; want it refused", a.Status, len(a.body))
				}
				p.link.Heal()
				eventually(t, 20*time.Second, "the manifest from a good upstream", func() bool {
					a := p.get(t, path, "Accept", i.MediaType)
					return a.StatusCode == http.StatusOK && bytes.Equal(a.body, i.Manifest)
				})
			})
		}
	}
}

// TestCachedImageOutlivesItsUpstream pulls a cached image while its upstream is
// in every kind of trouble, with tags that have to be checked each time.
func TestCachedImageOutlivesItsUpstream(t *testing.T) {
	p := startProxyWith(t, suite.Registry.URL(), link.Options{}, []string{setting("tag_ttl", "0s"), setting("tag_timeout", "1s")})
	i := image(t, realimage.ImageSmall)
	pullAndCompare(t, craneProgram(), p.ref(i), i)
	p.awaitIndex(t, i.Repo(), i.Digest, 30*time.Second)
	for _, tt := range []struct {
		name  string
		fault link.Fault
	}{
		{"500", link.Fault{Status: http.StatusInternalServerError}},
		{"429", link.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"600"}}}},
		{"refused", link.Fault{Refuse: true}},
		{"silent", link.Fault{Silent: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.link.Heal()
			p.link.Inject(tt.fault)
			p.checkStale(t, i)
		})
	}
	t.Run("down", func(t *testing.T) {
		p.link.Heal()
		if err := p.link.Down(); err != nil {
			t.Fatal(err)
		}
		p.checkStale(t, i)
		p.awaitIndex(t, i.Repo(), i.Digest, 30*time.Second)
		pullAndCompare(t, craneProgram(), p.ref(i), i)
		pullAndCompare(t, skopeoProgram(), p.ref(i), i)
		if err := p.link.Up(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "a fresh tag once the upstream is back", func() bool {
			a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType)
			return a.StatusCode == http.StatusOK && a.Header.Get("Warning") == ""
		})
	})
	t.Run("gone", func(t *testing.T) {
		p.link.Inject(link.Fault{On: link.Manifest(), Status: http.StatusNotFound})
		if a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType); a.StatusCode != http.StatusNotFound || a.code() != "MANIFEST_UNKNOWN" {
			t.Errorf("a tag that the upstream no longer has: %s with code %q, want 404 MANIFEST_UNKNOWN", a.Status, a.code())
		}
	})
}

// checkStale reads the tag while it cannot be checked.
func (p *proxy) checkStale(t *testing.T, i realimage.Image) {
	t.Helper()
	a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType)
	if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, i.Manifest) {
		t.Errorf("the cached tag: %s, want it served\n%s", a.Status, a.body)
	}
	if got := a.Header.Get("Warning"); !strings.HasPrefix(got, `299 - "`) {
		t.Errorf("Warning %q, want one that says that the tag is stale", got)
	}
	if _, err := p.download(t.Context(), blobPath(i.Repo(), i.Layers[0].Digest), i.Layers[0].Digest); err != nil {
		t.Errorf("the cached layer: %v", err)
	}
}

// TestStartsWithoutItsUpstream: and serves as soon as that is there.
func TestStartsWithoutItsUpstream(t *testing.T) {
	l := startLink(t, suite.Registry.URL(), link.Options{})
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	p := startProxyTo(t, l.URL(), link.Options{})
	i := image(t, realimage.ImageSmall)
	path := manifestPath(i.Repo(), "1")
	if a := p.get(t, path, "Accept", i.MediaType); a.StatusCode < 500 || a.code() == "" {
		t.Errorf("without an upstream: %s with code %q, want an error that says so", a.Status, a.code())
	}
	if err := l.Up(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the manifest once the upstream is there", func() bool {
		return p.get(t, path, "Accept", i.MediaType).StatusCode == http.StatusOK
	})
}
