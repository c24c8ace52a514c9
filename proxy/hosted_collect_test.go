package proxy

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// racer is one client that pushes while garbage is collected.
type racer struct {
	s   *server
	t   *testing.T
	n   int
	rnd *rand.Rand

	tries, lost int
	gone        []string // manifests that were acknowledged and replaced since
	last        []string // paths of what the tag means now
}

const racePushes = 25

// round pushes an image of shared layers, sent or mounted, alone or in an index,
// and moves the client's tag to it, as often as it takes: what was not named by
// a manifest in time may be gone, and then the registry says so.
func (c *racer) round(i int) {
	for range 200 {
		c.tries++
		if c.push(i) {
			return
		}
		c.lost++
	}
	c.t.Errorf("client %d: no push gets through", c.n)
}

func (c *racer) push(i int) bool {
	layers := []digest.Digest{c.layer(), c.layer()}
	const size = 2000
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":"x","digest":%q,"size":%d},{"mediaType":"x","digest":%q,"size":%d}],"annotations":{"of":"%d-%d"}}`,
		v1.MediaTypeImageManifest, v1.MediaTypeEmptyJSON, oci.EmptyDigest, layers[0], size, layers[1], size, c.n, i)
	d := digest.FromString(body)
	tag := fmt.Sprint("client", c.n)
	now := []string{"manifests/" + tag, "manifests/" + d.String(), "blobs/" + layers[0].String(), "blobs/" + layers[1].String()}
	if i%3 != 0 {
		return c.put(tag, v1.MediaTypeImageManifest, body) && c.acknowledged(now)
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, d, len(body))
	now = append(now, "manifests/"+digest.FromString(index).String())
	return c.put(d.String(), v1.MediaTypeImageManifest, body) && c.put(tag, v1.MediaTypeImageIndex, index) && c.acknowledged(now)
}

// layer sends or mounts one of a few layers.
func (c *racer) layer() digest.Digest {
	which := c.rnd.IntN(6)
	body := random(2000, byte(which)) // the other clients' too
	d := digest.FromBytes(body)
	const uploads = "/v2/local/app/blobs/uploads/"
	var a answer
	switch c.rnd.IntN(3) {
	case 0:
		a = c.s.send(c.t, http.MethodPost, uploads+"?digest="+d.String(), bytes.NewReader(body))
	case 1:
		loc := c.s.send(c.t, http.MethodPost, uploads, nil).header.Get("Location")
		if a = c.s.send(c.t, http.MethodPatch, loc, bytes.NewReader(body[:700])); a.status == http.StatusAccepted {
			a = c.s.send(c.t, http.MethodPut, loc+"?digest="+d.String(), bytes.NewReader(body[700:]))
		}
	default:
		a = c.s.send(c.t, http.MethodPost, uploads+"?from=local/base&mount="+d.String(), nil)
	}
	if a.status != http.StatusCreated {
		c.t.Errorf("client %d: a layer: %d %s", c.n, a.status, a.body)
	}
	return d
}

// put reports whether a manifest was taken. That something is missing is the one
// reason not to.
func (c *racer) put(ref, mediaType, body string) bool {
	a := c.s.send(c.t, http.MethodPut, "/v2/local/app/manifests/"+ref, strings.NewReader(body), "Content-Type", mediaType)
	if a.status != http.StatusCreated && !bytes.Contains(a.body, []byte("MANIFEST_BLOB_UNKNOWN")) {
		c.t.Errorf("client %d: manifest: %d %s", c.n, a.status, a.body)
	}
	return a.status == http.StatusCreated
}

// acknowledged looks for all that the tag means now, at once.
func (c *racer) acknowledged(paths []string) bool {
	if len(c.last) > 0 && c.last[1] != paths[1] {
		c.gone = append(c.gone, c.last[1])
	}
	c.last = paths
	c.wantThere()
	return true
}

func (c *racer) wantThere() {
	for _, path := range c.last {
		if a := c.s.do(c.t, http.MethodGet, "/v2/local/app/"+path); a.status != http.StatusOK || len(a.body) == 0 {
			c.t.Errorf("client %d: %s, which was acknowledged: %d %s", c.n, path, a.status, a.body)
		}
	}
}

// TestCollectWhilePushing has clients upload, mount, push manifests and indexes
// and move tags while garbage is collected without any grace: what a client was
// told is there, is, at once and in the end, and the rest goes.
func TestCollectWhilePushing(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	s.pushBlob(t, "local/app", oci.EmptyJSON)
	for which := range 6 { // to mount from
		s.pushImage(t, "local/base", fmt.Sprint("layer", which), random(2000, byte(which)))
	}
	collector := storage.NewCollector(storage.CollectOptions{
		Store: s.store, Hosted: []string{"local", "other"}, Rules: []storage.Retention{{Repositories: []string{"local/app"}, Untagged: 1}},
	})
	ctx, stop := context.WithCancel(t.Context())
	var collecting, crowd sync.WaitGroup
	var collected int
	collecting.Go(func() {
		for ctx.Err() == nil {
			report, err := collector.Collect(t.Context(), false, nil)
			if err != nil {
				t.Error(err)
			}
			collected += report.Manifests + report.Blobs
		}
	})
	clients := make([]racer, 4)
	for n := range clients {
		clients[n] = racer{s: s, t: t, n: n, rnd: rand.New(rand.NewPCG(1, uint64(n)))}
		crowd.Go(func() {
			for i := range racePushes {
				clients[n].round(i)
			}
		})
	}
	crowd.Wait()
	stop()
	collecting.Wait()
	if _, err := collector.Collect(t.Context(), false, nil); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for n := range clients {
		c := &clients[n]
		lost += c.lost
		c.wantThere()
		for _, path := range c.gone {
			if a := s.do(t, http.MethodGet, "/v2/local/app/"+path); a.status != http.StatusNotFound {
				t.Errorf("client %d: %s, which no tag means any more: %d", n, path, a.status)
			}
		}
	}
	if collected == 0 {
		t.Error("nothing was collected meanwhile: there was no race")
	}
	t.Logf("%d manifests and blobs were collected meanwhile, %d pushes had to begin anew", collected, lost)
}
