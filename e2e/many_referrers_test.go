package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
)

// TestManyReferrers attaches five thousand artifacts of two types to one image, and
// lists them in pages, all and by type.
func TestManyReferrers(t *testing.T) {
	const referrers = 5_000
	p := startProxy(t, link.Options{})
	config := []byte("{}")
	d := digest.FromBytes(config)
	p.sendBody(t, http.MethodPost, "/v2/local/many/blobs/uploads/?digest="+d.String(), bytes.NewReader(config))
	manifest := func(n int, more string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"n":"%d"}%s}`,
			v1.MediaTypeImageManifest, d, n, more)
	}
	subject := manifest(-1, "")
	put := func(ref string, body []byte) {
		if a := p.sendBody(t, http.MethodPut, "/v2/local/many/manifests/"+ref, bytes.NewReader(body)); a.StatusCode != http.StatusCreated {
			t.Errorf("put: %d %s", a.StatusCode, a.body)
		}
	}
	put("v1", subject)
	types := []string{"application/spdx+json", "application/vnd.dev.cosign.artifact.sig.v1+json"}
	var crowd sync.WaitGroup
	for c := range 16 {
		crowd.Go(func() {
			for n := c; n < referrers; n += 16 {
				body := manifest(n, fmt.Sprintf(`,"artifactType":%q,"subject":{"mediaType":%q,"digest":%q,"size":%d}`,
					types[n%2], v1.MediaTypeImageManifest, digest.FromBytes(subject), len(subject)))
				put(digest.FromBytes(body).String(), body)
			}
		})
	}
	crowd.Wait()
	path := "/v2/local/many/referrers/" + digest.FromBytes(subject).String()
	for query, want := range map[string]int{"?n=500": referrers, "?n=500&artifactType=application%2Fspdx%2Bjson": referrers / 2} {
		seen := map[digest.Digest]bool{}
		for next := path + query; next != ""; {
			a := p.get(t, next)
			list := decode[v1.Index](t, a)
			if len(list.Manifests) > 500 {
				t.Errorf("%s: %d entries", next, len(list.Manifests))
			}
			for i := range list.Manifests {
				seen[list.Manifests[i].Digest] = true
			}
			next, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
		}
		if len(seen) != want {
			t.Errorf("%s: %d referrers, want %d", query, len(seen), want)
		}
	}
	if rss, err := p.PeakRSS(); err != nil || rss > 150<<20 {
		t.Errorf("memory peak %d MiB, %v", rss>>20, err)
	} else {
		t.Logf("memory peak %d MiB", rss>>20)
	}
}
