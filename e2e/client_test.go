package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// answer is a response read to its end, or to where it broke.
type answer struct {
	*http.Response
	body      []byte
	err       error // of reading the body; nil: a clean end
	firstByte time.Time
	lastByte  time.Time
}

// cache is the X-Cache header: hit, miss, follow or span.
func (a *answer) cache() string { return a.Header.Get("X-Cache") }

// code is the first of the specification's error codes in the body.
func (a *answer) code() string {
	var body struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(a.body, &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	return body.Errors[0].Code
}

// client makes connections of its own for each test process, and never asks for
// compression by itself.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends one request; path goes on the wire as it is. header holds pairs of
// name and value. A transport error before the answer fails the test.
func (p *proxy) do(t *testing.T, method, path string, header ...string) *answer {
	t.Helper()
	a, err := request(t.Context(), p.Addr, method, path, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (p *proxy) get(t *testing.T, path string, header ...string) *answer {
	t.Helper()
	return p.do(t, http.MethodGet, path, header...)
}

func request(ctx context.Context, addr, method, path string, header ...string) (*answer, error) {
	a, body, err := open(ctx, addr, method, path, header...)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var buf bytes.Buffer
	if a.ContentLength > 0 && method != http.MethodHead {
		buf.Grow(int(a.ContentLength))
	}
	_, a.err = buf.ReadFrom(&stamper{r: body, first: &a.firstByte})
	a.body, a.lastByte = buf.Bytes(), time.Now()
	return a, nil
}

// open sends a request and leaves the body to the caller.
func open(ctx context.Context, addr, method, path string, header ...string) (*answer, io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+"/", nil)
	if err != nil {
		return nil, nil, err
	}
	req.URL = &url.URL{Scheme: "http", Host: addr, Opaque: path}
	for i := 0; i+1 < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	return &answer{Response: resp}, resp.Body, nil
}

// stamper notes when the first byte came.
type stamper struct {
	r     io.Reader
	first *time.Time
}

func (s *stamper) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 && s.first.IsZero() {
		*s.first = time.Now()
	}
	return n, err
}

// repo is the path of a repository under the upstream's prefix.
func repo(name string) string { return "/v2/" + upstream + "/" + name }

func blobPath(name string, d digest.Digest) string { return repo(name) + "/blobs/" + d.String() }

func manifestPath(name, ref string) string { return repo(name) + "/manifests/" + ref }

func referrersPath(name string, d digest.Digest) string {
	return repo(name) + "/referrers/" + d.String()
}

// download reads a blob through the proxy and hashes it instead of keeping it.
// The error tells of anything but a complete, right body.
func (p *proxy) download(ctx context.Context, path string, want digest.Digest) (*answer, error) {
	a, body, err := open(ctx, p.Addr, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	h := sha256.New()
	n, err := io.Copy(h, &stamper{r: body, first: &a.firstByte})
	a.lastByte = time.Now()
	switch got := digest.NewDigest(digest.SHA256, h); {
	case err != nil:
		return a, fmt.Errorf("after %d bytes: %w", n, err)
	case a.StatusCode != http.StatusOK:
		return a, fmt.Errorf("%w: %s", errStatus, a.Status)
	case got != want:
		return a, fmt.Errorf("%w: a complete body of %d bytes with digest %s", errWrongBody, n, got)
	}
	return a, nil
}

var (
	errWrongBody = errors.New("wrong body") // what no client may ever see
	errStatus    = errors.New("refused")    // an answer other than 200
)

// sameFile compares a file with the source's blob d, byte for byte.
func sameFile(t *testing.T, path string, d digest.Digest) {
	t.Helper()
	got, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := suite.Set.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if off := firstDifference(got, want); off >= 0 {
		t.Errorf("%s differs from blob %s of the source at byte %d", path, d, off)
	}
}

// firstDifference is the offset where two readers differ, -1 if they don't.
func firstDifference(a, b io.Reader) int64 {
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			for i := range min(n, m) {
				if bufA[i] != bufB[i] {
					return off + int64(i)
				}
			}
			return off + int64(min(n, m))
		}
		if errA != nil || errB != nil {
			return -1
		}
		off += int64(n)
	}
}

// decode reads a JSON body of a 200.
func decode[T any](t *testing.T, a *answer) (v T) {
	t.Helper()
	if a.StatusCode != http.StatusOK || a.err != nil {
		t.Fatalf("%s %s: %s, %v\n%s", a.Request.Method, a.Request.URL.Opaque, a.Status, a.err, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%s: %v\n%s", a.Request.URL.Opaque, err, a.body)
	}
	return v
}

const (
	sociV1    = "application/vnd.amazon.soci.index.v1+json"
	emptyJSON = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	ociIndex  = v1.MediaTypeImageIndex
)

// sociEntries are the SOCI v1 indexes of a referrers list.
func sociEntries(list v1.Index) (ds []v1.Descriptor) {
	for _, d := range list.Manifests {
		if d.ArtifactType == sociV1 {
			ds = append(ds, d)
		}
	}
	return ds
}

// awaitIndex polls the referrers of an image until its SOCI index is listed.
func (p *proxy) awaitIndex(t *testing.T, name string, subject digest.Digest, d time.Duration) v1.Descriptor {
	t.Helper()
	var found v1.Descriptor
	eventually(t, d, "a SOCI index among the referrers of "+name, func() bool {
		a := p.get(t, referrersPath(name, subject))
		if a.StatusCode != http.StatusOK {
			return false
		}
		entries := sociEntries(decode[v1.Index](t, a))
		if len(entries) == 1 {
			found = entries[0]
		}
		return len(entries) == 1
	})
	return found
}

// pull reads a tag, its manifest and its blobs as a client would, and returns
// when the last byte of the last blob came.
func (p *proxy) pull(t *testing.T, name string) time.Time {
	t.Helper()
	i := image(t, name)
	if a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType); !bytes.Equal(a.body, i.Manifest) {
		t.Fatalf("pull %s: manifest %s, %v\n%s", name, a.Status, a.err, a.body)
	}
	ds := i.Blobs()
	type result struct {
		at  time.Time
		err error
	}
	results := make(chan result, len(ds))
	for _, d := range ds {
		go func() {
			a, err := p.download(t.Context(), blobPath(i.Repo(), d), d)
			if err != nil {
				results <- result{err: fmt.Errorf("blob %s: %w", d, err)}
				return
			}
			results <- result{at: a.lastByte}
		}()
	}
	var last time.Time
	for range ds {
		r := <-results
		if r.err != nil {
			t.Errorf("pull %s: %v", name, r.err)
		}
		if r.at.After(last) {
			last = r.at
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return last
}
