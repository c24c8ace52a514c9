package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestKillAtRandomMoments kills one store's process again and again while blobs
// arrive, rows are written, things are pushed and purged. What was acknowledged
// must be there after each kill; now and then, and with E2E_KILLS each time,
// every byte of the store is compared with its digest.
func TestKillAtRandomMoments(t *testing.T) {
	kills, every := 40, 10
	if n, err := strconv.Atoi(os.Getenv("E2E_KILLS")); err == nil {
		kills, every = n, 1
	}
	p := startProxyWith(t, suite.Registry.URL(), link.Options{BytesPerSecond: 150e6}, []string{"SOCIABLE_HOSTED_LOCAL_ACCESS=open"})
	c := &crashes{proxy: p, work: crashWork(t), rng: rand.New(rand.NewPCG(3, 14))}
	for kill := range kills {
		c.killUnderLoad(t)
		c.checkSome(t)
		if (kill+1)%every == 0 {
			c.checkStore(t)
		}
		if t.Failed() {
			t.Fatalf("after kill %d of %d", kill+1, kills)
		}
	}
	for _, name := range []string{realimage.ImageSmall, realimage.ImageToolchain, realimage.ImageCrumbs} {
		p.pull(t, name)
	}
	p.checkIndex(t, image(t, realimage.ImageSmall))
	p.checkIndex(t, image(t, realimage.ImageToolchain))
	p.link.Forget()
	for _, w := range append(c.pushed, c.work...) {
		if _, err := p.download(t.Context(), w.path, w.digest); err != nil {
			t.Errorf("at the end: %s: %v", w.path, err)
		}
	}
	if rs := p.link.Requests(link.Blob()); len(rs) != 0 {
		t.Errorf("what was just pulled is not all from the store: %v", rs)
	}
	c.checkStore(t)
	if len(c.pushed) < kills/2 {
		t.Errorf("%d pushes were acknowledged in %d rounds: too few to tell", len(c.pushed), kills)
	}
	if c.chunks.resumed == 0 {
		t.Error("no upload in chunks went on after a kill")
	}
	t.Logf("%d uploads in chunks, which went on %d times", c.chunks.number, c.chunks.resumed)
	t.Logf("%d kills; %d pushes acknowledged, all there; %d blobs compared with their digests; slowest start %v", kills, len(c.pushed), c.compared, c.slowest)
}

// crashes is a proxy that is killed, and what is expected of it.
type crashes struct {
	*proxy
	work     []item
	rng      *rand.Rand
	compared int           // blobs, over all checks
	slowest  time.Duration // start
	chunks   chunked

	mu     sync.Mutex
	pushed []item // acknowledged
}

// killUnderLoad has clients at work, kills the process and starts it again.
func (c *crashes) killUnderLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		seed := c.rng.Uint64()
		clients.Go(func() { c.mixedLoad(ctx, t, c.work, seed) })
	}
	seed := c.rng.Uint64()
	clients.Go(func() { c.push(ctx, t, seed) })
	clients.Go(func() { c.pushChunks(ctx, t) })
	pause(t, time.Duration(c.rng.IntN(250))*time.Millisecond)
	c.Kill()
	cancel()
	clients.Wait()
	begin := time.Now()
	c.start(t)
	took := time.Since(begin)
	c.slowest = max(c.slowest, took)
	if took > 5*time.Second {
		t.Errorf("the start took %v", took)
	}
}

// push uploads blobs of its own into a hosted repository, and notes which were
// acknowledged, until the process or the context ends.
func (c *crashes) push(ctx context.Context, t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	for ctx.Err() == nil {
		body := make([]byte, 1+rng.IntN(64<<10))
		for i := range body {
			body[i] = byte(rng.Uint32())
		}
		d := digest.FromBytes(body)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.Addr+"/v2/local/app/blobs/uploads/?digest="+d.String(), bytes.NewReader(body))
		if err != nil {
			t.Errorf("push: %v", err)
			return
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		resp, err := client.Do(req)
		if err != nil {
			return // the process was killed
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Errorf("push: %s", resp.Status)
			return
		}
		c.mu.Lock()
		c.pushed = append(c.pushed, item{"/v2/local/app/blobs/" + d.String(), d})
		c.mu.Unlock()
	}
}

// checkSome asks for what was pushed last, and for some of the upstream's.
func (c *crashes) checkSome(t *testing.T) {
	some := c.pushed[max(0, len(c.pushed)-50):]
	for range 3 { // what was there before or not, it is right now
		some = append(some[:len(some):len(some)], c.work[c.rng.IntN(len(c.work))])
	}
	for _, w := range some {
		if _, err := c.download(t.Context(), w.path, w.digest); err != nil {
			t.Errorf("%s: %v", w.path, err)
		}
	}
}

// checkStore reads all that is stored. What a crash may leave is bytes that no
// row knows of, and less of a partial than its row says.
func (c *crashes) checkStore(t *testing.T) {
	blobs, found, err := c.Fsck(t.Context())
	if err != nil {
		t.Error(err)
	}
	c.compared += blobs
	for _, x := range found {
		if x.Kind != "unfiled" && x.Kind != "garbage" && x.Kind != "partial" && x.Kind != "leftover" {
			t.Errorf("fsck: %s %s: %s", x.Kind, x.Digest, x.Detail)
		}
	}
	for _, w := range c.pushed {
		a, err := request(t.Context(), c.Addr, http.MethodHead, w.path)
		if err != nil || a.StatusCode != http.StatusOK {
			t.Errorf("%s was acknowledged and is gone: %v", w.path, err)
		}
	}
}

// item is something to ask for, by its digest.
type item struct {
	path   string
	digest digest.Digest
}

func crashWork(t *testing.T) (work []item) {
	for _, name := range []string{realimage.ImageSmall, realimage.ImageToolchain, realimage.ImageCrumbs} {
		i := image(t, name)
		work = append(work, item{manifestPath(i.Repo(), i.Digest.String()), i.Digest}, item{manifestPath(i.Repo(), "1"), i.Digest})
		for _, d := range i.Blobs() {
			work = append(work, item{blobPath(i.Repo(), d), d})
		}
	}
	return work
}

// mixedLoad asks for things, by range now and then, and purges some, until the
// process or the context ends.
func (p *proxy) mixedLoad(ctx context.Context, t *testing.T, work []item, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		w := work[rng.IntN(len(work))]
		var err error
		switch rng.IntN(10) {
		case 0:
			err = p.Purge(ctx, w.digest.String())
			if err != nil && ctx.Err() == nil {
				continue // it may not be there
			}
		case 1:
			first := rng.IntN(1 << 20)
			_, err = request(ctx, p.Addr, http.MethodGet, w.path, "Range", fmt.Sprintf("bytes=%d-%d", first, first+rng.IntN(1<<20)))
		default:
			_, err = p.download(ctx, w.path, w.digest)
		}
		if errors.Is(err, errWrongBody) || errors.Is(err, errStatus) {
			t.Errorf("%s: %v", w.path, err)
		}
		if err != nil {
			return // the process was killed
		}
	}
}
