package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/realimage"
)

// Limits of pushes with indexing on.
const (
	maxPushRatio   = 1.0 // time ÷ docker-registry's
	maxIndexBehind = 200 * time.Millisecond
)

// manifestClients push manifests at once, for manifestTime.
const (
	manifestClients = 16
	manifestTime    = 3 * time.Second
)

// pollEvery is how often the list of referrers is asked for.
const pollEvery = 5 * time.Millisecond

// lineRate is how fast a client pushes over a network of 1 Gbit/s, in bytes a second.
const lineRate = 118e6

// pushSample is one push of a large layer.
type pushSample struct {
	layer  time.Duration
	answer time.Duration // to the manifest
	listed time.Duration // from the answer to the manifest to the index being listed
	behind time.Duration // the same, when the layer was pushed at gigabit
	paced  time.Duration // layer and manifest, pushed at gigabit
	perSec float64       // manifests
	rss    int64
}

// BenchmarkPush pushes a layer of real files through loopback, and then many
// manifests, to sociable, which indexes it on the way, and to docker-registry, in
// turns.
func BenchmarkPush(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	s, err := harness.NewSuite(ctx, "..")
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			b.Error(err)
		}
	}()
	bench := &pushes{suite: s, image: s.Set.Images[realimage.ImageBig], layer: s.Set.Layers[realimage.LayerBig]}
	for b.Loop() {
		var ours, theirs []pushSample
		for range runs(b) {
			o, err := bench.toSociable(ctx, b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			t, err := bench.toRegistry(ctx, b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			ours, theirs = append(ours, o), append(theirs, t)
		}
		bench.report(b, ours, theirs)
	}
}

type pushes struct {
	suite *harness.Suite
	image realimage.Image
	layer realimage.Layer
}

func (c *pushes) toSociable(ctx context.Context, data string) (pushSample, error) {
	p, err := harness.NewProxy(c.suite.Programs, data, []string{"up=" + c.suite.Registry.URL()})
	if err != nil {
		return pushSample{}, err
	}
	if err := p.Start(ctx); err != nil {
		return pushSample{}, err
	}
	defer p.Stop() // killed with ctx otherwise
	got, err := c.push(ctx, p.Addr, "local/", 0)
	if err == nil {
		got.rss, err = p.PeakRSS()
	}
	if err != nil {
		return got, err
	}
	slow, err := harness.NewProxy(c.suite.Programs, filepath.Join(data, "slow"), []string{"up=" + c.suite.Registry.URL()})
	if err == nil {
		err = slow.Start(ctx)
	}
	if err != nil {
		return got, err
	}
	defer slow.Stop() // killed with ctx otherwise
	paced, err := c.push(ctx, slow.Addr, "local/", lineRate)
	got.behind, got.paced = paced.listed, paced.layer+paced.answer
	return got, err
}

func (c *pushes) toRegistry(ctx context.Context, root string) (pushSample, error) {
	r, err := harness.StartRegistry(ctx, c.suite.Programs.DockerRegistry, root)
	if err != nil {
		return pushSample{}, err
	}
	defer r.Stop() // killed with ctx otherwise
	got, err := c.push(ctx, r.Addr, "", 0)
	if err == nil {
		got.rss, err = r.PeakRSS()
	}
	if err != nil {
		return got, err
	}
	slow, err := harness.StartRegistry(ctx, c.suite.Programs.DockerRegistry, filepath.Join(root, "slow"))
	if err != nil {
		return got, err
	}
	defer slow.Stop() // killed with ctx otherwise
	paced, err := c.push(ctx, slow.Addr, "", lineRate)
	got.paced = paced.layer + paced.answer
	return got, err
}

// push pushes the image, its large layer last, and then manifests, but not where it
// pushes at speed, in bytes a second. Docker's way: a POST, one streamed PATCH, a PUT.
// Without prefix, the registry's own, no index is looked for.
func (c *pushes) push(ctx context.Context, addr, prefix string, speed float64) (s pushSample, err error) {
	base := "http://" + addr + "/v2/" + prefix + c.image.Repo()
	for _, d := range append(c.image.Blobs(), c.layer.Digest) {
		if d == c.layer.Digest {
			continue
		}
		if err := c.pushBlob(ctx, base, d, 0); err != nil {
			return s, err
		}
	}
	start := time.Now()
	if err := c.pushBlob(ctx, base, c.layer.Digest, speed); err != nil {
		return s, err
	}
	s.layer = time.Since(start)
	start = time.Now()
	if _, err := call(ctx, http.MethodPut, base+"/manifests/1", c.image.MediaType, bytes.NewReader(c.image.Manifest), http.StatusCreated); err != nil {
		return s, err
	}
	answered := time.Now()
	s.answer = answered.Sub(start)
	if prefix != "" {
		url := base + "/referrers/" + c.image.Digest.String() + "?artifactType=application/vnd.amazon.soci.index.v1%2Bjson"
		for listed := false; !listed; listed = err == nil && bytes.Contains(listOf(ctx, url), []byte("sha256:")) {
			select {
			case <-time.After(pollEvery): // asking is work, too
			case <-ctx.Done():
				return s, context.Cause(ctx)
			}
		}
		s.listed = time.Since(answered)
	}
	if speed == 0 {
		s.perSec, err = c.pushManifests(ctx, base)
	}
	return s, err
}

// paced reads at most so many bytes a second.
type paced struct {
	io.Reader
	speed float64
	start time.Time
	n     int64
}

func (p *paced) Read(b []byte) (int, error) {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	time.Sleep(time.Until(p.start.Add(time.Duration(float64(p.n) / p.speed * 1e9))))
	n, err := p.Reader.Read(b[:min(len(b), 64<<10)])
	p.n += int64(n)
	return n, err
}

func listOf(ctx context.Context, url string) []byte {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return body
}

func (c *pushes) pushBlob(ctx context.Context, base string, d digest.Digest, speed float64) error {
	loc, err := call(ctx, http.MethodPost, base+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	f, err := os.Open(c.suite.Set.Path(d))
	if err != nil {
		return err
	}
	defer f.Close()
	var body io.Reader = struct{ io.Reader }{f}
	if speed > 0 {
		body = &paced{Reader: f, speed: speed}
	}
	if loc, err = call(ctx, http.MethodPatch, loc, "application/octet-stream", body, http.StatusAccepted); err != nil {
		return err
	}
	sep := "?"
	if strings.Contains(loc, "?") {
		sep = "&"
	}
	_, err = call(ctx, http.MethodPut, loc+sep+"digest="+d.String(), "", nil, http.StatusCreated)
	return err
}

var pushClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: manifestClients, WriteBufferSize: 256 << 10}}

// call sends a request and gives the answer's Location.
func call(ctx context.Context, method, url, contentType string, body io.Reader, want int) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := pushClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != want {
		return "", fmt.Errorf("%s %s: %d %s", method, url, resp.StatusCode, text)
	}
	loc, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	return loc.String(), nil
}

// pushManifests counts manifests a second, each with a tag of its own.
func (c *pushes) pushManifests(ctx context.Context, base string) (float64, error) {
	config := c.image.Blobs()[0]
	st, err := os.Stat(c.suite.Set.Path(config))
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var count, failed atomic.Int64
	var first error
	var once sync.Once
	var crowd sync.WaitGroup
	start := time.Now()
	for n := range manifestClients {
		crowd.Go(func() {
			for i := 0; time.Since(start) < manifestTime; i++ {
				body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[],"annotations":{"n":"%d-%d"}}`,
					v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, config, st.Size(), n, i)
				_, err := call(ctx, http.MethodPut, fmt.Sprintf("%s/manifests/t%d-%d", base, n, i), v1.MediaTypeImageManifest, strings.NewReader(body), http.StatusCreated)
				if err != nil {
					failed.Add(1)
					once.Do(func() { first = err })
					return
				}
				count.Add(1)
			}
		})
	}
	crowd.Wait()
	if failed.Load() > 0 {
		return 0, first
	}
	return float64(count.Load()) / time.Since(start).Seconds(), nil
}

func (c *pushes) report(b *testing.B, ours, theirs []pushSample) {
	o, t := pushMedians(ours), pushMedians(theirs)
	ratio := float64(o.layer) / float64(t.layer)
	text := Table{
		Heading: "Push",
		Intro: fmt.Sprintf("One layer of real files, %.1f MiB, through loopback (a POST, one streamed PATCH, a PUT), indexed on the way; then "+
			"manifests,\neach with a tag of its own, from %d clients for %v. Beside Debian's docker-registry, which indexes nothing; medians of %d\nruns in turns. %s. As fast as it\ngoes, client and server keep both cores busy, and building the index takes longer than the push: the answer to the\nmanifest waits until it seems to be 100 ms from its end (referrers.push_wait).",
			float64(c.layer.Size)/(1<<20), manifestClients, manifestTime, len(ours), Circumstances()),
		Columns: []string{"what", "docker-registry", "sociable", "sociable ÷ docker-registry", "limit"},
		Rows: [][]string{
			{"layer, until it is acknowledged", seconds(t.layer), seconds(o.layer), fmt.Sprintf("%.2f", ratio), fmt.Sprintf("%.2f", maxPushRatio)},
			{"index listed after the manifest is acknowledged, layer pushed at 1 Gbit/s", "", millis(o.behind), "", millis(maxIndexBehind)},
			{"the same, pushed as fast as it goes", "", millis(o.listed), "", millis(maxIndexBehind)},
			{"its manifest, until it is acknowledged", millis(t.answer), millis(o.answer), "", ""},
			{"both together", seconds(t.layer + t.answer), seconds(o.layer + o.answer), fmt.Sprintf("%.2f", float64(o.layer+o.answer)/float64(t.layer+t.answer)), ""},
			{"both, pushed at 1 Gbit/s", seconds(t.paced), seconds(o.paced), fmt.Sprintf("%.2f", float64(o.paced)/float64(t.paced)), ""},
			{"manifests a second", fmt.Sprintf("%.0f", t.perSec), fmt.Sprintf("%.0f", o.perSec), fmt.Sprintf("%.2f", o.perSec/t.perSec), ""},
			{"peak memory, largest of all runs", fmt.Sprintf("%d MiB", t.rss>>20), fmt.Sprintf("%d MiB", o.rss>>20), "", ""},
		},
	}
	fmt.Printf("\n%s\n", text.Markdown())
	b.ReportMetric(ratio, "×registry")
	b.ReportMetric(float64(o.behind)/1e6, "ms-to-index")
	b.ReportMetric(o.perSec, "manifests/s")
	if ratio > maxPushRatio || max(o.behind, o.listed) > maxIndexBehind {
		b.Errorf("over a limit: see the table")
	}
	if doc := os.Getenv("BENCH_DOC"); doc != "" {
		if err := WriteSection(filepath.Join("..", "..", doc), text.Markdown()); err != nil {
			b.Error(err)
		}
	}
}

// pushMedians is the median of each figure by itself; of memory the largest.
func pushMedians(samples []pushSample) (m pushSample) {
	var layer, answer, listed, behind, paced []time.Duration
	var perSec []int64
	for _, s := range samples {
		layer, answer = append(layer, s.layer), append(answer, s.answer)
		listed, behind = append(listed, s.listed), append(behind, s.behind)
		perSec, paced = append(perSec, int64(s.perSec)), append(paced, s.paced)
		m.rss = max(m.rss, s.rss)
	}
	m.layer, m.answer, m.listed, m.behind, m.paced, m.perSec = median(layer), median(answer), median(listed), median(behind), median(paced), float64(median(perSec))
	return m
}
