package bench

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// Limits of a cold pull through the proxy with indexing on.
const (
	maxRatio     = 1.03 // total time ÷ direct
	maxFirstByte = 10 * time.Millisecond
	maxRSS       = 150 << 20
)

// network is the link of the benchmark.
var network = link.Options{Latency: 20 * time.Millisecond, BytesPerSecond: 50e6}

// sample is one pull: the manifest by tag, then one layer.
type sample struct {
	total     time.Duration // from asking for the layer to its last byte
	firstByte time.Duration // from asking for the layer to its first byte
	manifest  time.Duration
	listed    time.Duration // from the last byte to the index being listed; 0 where direct
	rss       int64         // of the proxy, at most
}

// BenchmarkColdPull pulls a layer of real files over a slow link, directly and
// through a proxy that has never seen it and indexes it, in turns.
func BenchmarkColdPull(b *testing.B) {
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
	l, err := link.Start(s.Registry.URL(), network)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	bench := &coldPull{suite: s, link: l, image: s.Set.Images[realimage.ImageBig], layer: s.Set.Layers[realimage.LayerBig]}
	for b.Loop() {
		var direct, proxied []sample
		for range runs(b) {
			d, err := bench.pull(ctx, l.Addr(), "")
			if err != nil {
				b.Fatal(err)
			}
			p, err := bench.throughProxy(ctx, b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			direct, proxied = append(direct, d), append(proxied, p)
		}
		bench.report(b, direct, proxied)
	}
}

func runs(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("BENCH_RUNS"))
	switch {
	case os.Getenv("BENCH_RUNS") == "":
		return 5
	case err != nil || n < 1:
		b.Fatalf("BENCH_RUNS=%s is not a number of runs", os.Getenv("BENCH_RUNS"))
	}
	return n
}

type coldPull struct {
	suite *harness.Suite
	link  *link.Link
	image realimage.Image
	layer realimage.Layer
}

// throughProxy pulls through a fresh proxy, and waits for the index.
func (c *coldPull) throughProxy(ctx context.Context, data string) (sample, error) {
	p, err := harness.NewProxy(c.suite.Programs, data, []string{"up=" + c.link.URL()})
	if err != nil {
		return sample{}, err
	}
	if err := p.Start(ctx); err != nil {
		return sample{}, err
	}
	defer p.Stop() // killed with ctx otherwise
	// The other layers of the image come first, so that its index waits for this one alone.
	for _, d := range c.image.Blobs() {
		if d != c.layer.Digest {
			c.link.Set(link.Options{})
			if _, err := fetch(ctx, blobURL(p.Addr, "up/", c.image, d), d); err != nil {
				return sample{}, err
			}
		}
	}
	c.link.Set(network)
	got, err := c.pull(ctx, p.Addr, "up/")
	if err != nil {
		return sample{}, err
	}
	last := time.Now()
	if err := c.awaitIndex(ctx, p); err != nil {
		return sample{}, err
	}
	got.listed = time.Since(last)
	got.rss, err = p.PeakRSS()
	return got, err
}

// pull is one cold pull from addr.
func (c *coldPull) pull(ctx context.Context, addr, prefix string) (s sample, err error) {
	manifest := fmt.Sprintf("http://%s/v2/%s%s/manifests/1", addr, prefix, c.image.Repo())
	m, err := fetch(ctx, manifest, c.image.Digest)
	if err != nil {
		return s, err
	}
	s, err = fetch(ctx, blobURL(addr, prefix, c.image, c.layer.Digest), c.layer.Digest)
	s.manifest = m.total
	return s, err
}

func blobURL(addr, prefix string, i realimage.Image, d digest.Digest) string {
	return fmt.Sprintf("http://%s/v2/%s%s/blobs/%s", addr, prefix, i.Repo(), d)
}

// fetch reads a URL on a connection of its own, as a cold client does, and
// checks the digest.
func fetch(ctx context.Context, url string, want digest.Digest) (s sample, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return s, err
	}
	req.Header.Set("Accept", v1.MediaTypeImageManifest)
	tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	begin := time.Now()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	h := sha256.New()
	var first [1]byte
	n, err := io.ReadFull(resp.Body, first[:])
	s.firstByte = time.Since(begin)
	h.Write(first[:n])
	if err == nil {
		_, err = io.Copy(h, resp.Body)
	}
	s.total = time.Since(begin)
	if got := digest.NewDigest(digest.SHA256, h); err != nil || got != want {
		return s, fmt.Errorf("%s: %s, %w, digest %s", url, resp.Status, err, got)
	}
	return s, nil
}

// awaitIndex polls the referrers until the SOCI index is listed.
func (c *coldPull) awaitIndex(ctx context.Context, p *harness.Proxy) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	url := fmt.Sprintf("http://%s/v2/up/%s/referrers/%s", p.Addr, c.image.Repo(), c.image.Digest)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("wait for the index: %w\n%s", err, p.Log())
		}
		var list v1.Index
		err = json.NewDecoder(resp.Body).Decode(&list)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("referrers: %s, %w", resp.Status, err)
		}
		if len(list.Manifests) > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no index: %w", context.Cause(ctx))
		}
	}
}

func (c *coldPull) report(b *testing.B, direct, proxied []sample) {
	d, p := medians(direct), medians(proxied)
	ratio := float64(p.total) / float64(d.total)
	later := p.firstByte - d.firstByte
	mib := float64(p.rss) / (1 << 20)
	t := Table{
		Heading: "Cold pull",
		Intro: fmt.Sprintf("One layer of real files, %.1f MiB, over a link of %v a request and %d MB/s, read directly and through a proxy that\n"+
			"has never seen it and indexes it on the way; medians of %d runs in turns. %s.",
			float64(c.layer.Size)/(1<<20), network.Latency, network.BytesPerSecond/1e6, len(direct), Circumstances()),
		Columns: []string{"what", "direct", "through sociable", "difference", "limit"},
		Rows: [][]string{
			{"layer, asked for to last byte", seconds(d.total), seconds(p.total), fmt.Sprintf("× %.3f", ratio), fmt.Sprintf("× %.2f", maxRatio)},
			{"layer, first byte", millis(d.firstByte), millis(p.firstByte), millis(later), millis(maxFirstByte)},
			{"manifest by tag", millis(d.manifest), millis(p.manifest), millis(p.manifest - d.manifest), ""},
			{"index listed after the last byte", "", millis(p.listed), "", millis(time.Second)},
			{"peak memory of the proxy, largest of all runs", "", fmt.Sprintf("%.1f MiB", mib), "", fmt.Sprintf("%d MiB", maxRSS>>20)},
		},
	}
	fmt.Printf("\n%s\n", t.Markdown())
	b.ReportMetric(ratio, "×direct")
	b.ReportMetric(float64(later)/1e6, "ms-later-first-byte")
	b.ReportMetric(mib, "MiB-peak")
	b.ReportMetric(float64(p.listed)/1e6, "ms-to-index")
	if ratio > maxRatio || later > maxFirstByte || p.rss > maxRSS || p.listed > time.Second {
		b.Errorf("over a limit: see the table")
	}
	if doc := os.Getenv("BENCH_DOC"); doc != "" {
		if err := WriteSection(filepath.Join("..", "..", doc), t.Markdown()); err != nil {
			b.Error(err)
		}
	}
}

// medians is the median of each figure by itself; of memory the largest.
func medians(samples []sample) (m sample) {
	pick := func(of func(sample) time.Duration) time.Duration {
		var ds []time.Duration
		for _, s := range samples {
			ds = append(ds, of(s))
			m.rss = max(m.rss, s.rss)
		}
		return median(ds)
	}
	m.total = pick(func(s sample) time.Duration { return s.total })
	m.firstByte = pick(func(s sample) time.Duration { return s.firstByte })
	m.manifest = pick(func(s sample) time.Duration { return s.manifest })
	m.listed = pick(func(s sample) time.Duration { return s.listed })
	return m
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
