package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// gigabit is a link of 1 Gbit/s.
var gigabit = link.Options{BytesPerSecond: 125e6}

// Limits of a stream beside which a zTOC is built.
const (
	minRate  = 0.98 // its rate ÷ that without indexing; turns differ by as much
	maxReady = 100 * time.Millisecond
)

// streamed is one layer through a fresh proxy.
type streamed struct {
	total time.Duration // from asking for the layer to its last byte
	ready time.Duration // from the last byte to the zTOC being stored; 0 without indexing
}

// BenchmarkZTOCStream reads a layer of real files through a proxy over a link of
// 1 Gbit/s, with indexing on and off in turns.
func BenchmarkZTOCStream(b *testing.B) {
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
	l, err := link.Start(s.Registry.URL(), gigabit)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c := &coldPull{suite: s, link: l, image: s.Set.Images[realimage.ImageBig], layer: s.Set.Layers[realimage.LayerBig]}
	for b.Loop() {
		var off, on []streamed
		for range runs(b) {
			x, err := c.stream(ctx, b.TempDir(), false)
			if err != nil {
				b.Fatal(err)
			}
			y, err := c.stream(ctx, b.TempDir(), true)
			if err != nil {
				b.Fatal(err)
			}
			off, on = append(off, x), append(on, y)
		}
		c.reportStream(b, off, on)
	}
}

// stream reads the layer through a fresh proxy.
func (c *coldPull) stream(ctx context.Context, data string, indexed bool) (streamed, error) {
	p, err := harness.NewProxy(c.suite.Programs, data, []string{"up=" + c.link.URL()})
	if err != nil {
		return streamed{}, err
	}
	p.Env = append(p.Env, fmt.Sprintf("SOCIABLE_INDEX_ENABLED=%v", indexed))
	if err := p.Start(ctx); err != nil {
		return streamed{}, err
	}
	defer p.Stop() // killed with ctx otherwise
	got, err := c.pull(ctx, p.Addr, "up/")
	if err != nil || !indexed {
		return streamed{total: got.total}, err
	}
	last := time.Now()
	err = c.awaitZTOC(ctx, p)
	return streamed{got.total, time.Since(last)}, err
}

// awaitZTOC polls the socket until the layer has its zTOC.
func (c *coldPull) awaitZTOC(ctx context.Context, p *harness.Proxy) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := p.AdminClient()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sociable/api/v1/indexes/"+c.image.Digest.String(), nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("wait for the zTOC: %w\n%s", err, p.Log())
		}
		var x harness.Index
		err = json.NewDecoder(resp.Body).Decode(&x)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("index of the image: %s, %w", resp.Status, err)
		}
		for _, l := range x.Layers {
			if l.Digest == c.layer.Digest.String() && l.ZTOC != "" {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no zTOC: %w", context.Cause(ctx))
		}
	}
}

func (c *coldPull) reportStream(b *testing.B, off, on []streamed) {
	var plain, indexed, ready []time.Duration
	for i := range off {
		plain, indexed, ready = append(plain, off[i].total), append(indexed, on[i].total), append(ready, on[i].ready)
	}
	without, with, soon := median(plain), median(indexed), median(ready)
	rate := float64(without) / float64(with)
	mbs := func(d time.Duration) string { return fmt.Sprintf("%.1f MB/s", float64(c.layer.Size)/1e6/d.Seconds()) }
	t := Table{
		Heading: "Indexing beside a stream",
		Intro: fmt.Sprintf("One layer of real files, %.1f MiB, through a proxy that has never seen it, over a link of %d MB/s (1 Gbit/s), with indexing\n"+
			"off and on in turns; the link, its registry, the proxy and the client share the machine. Medians of %d runs of each. %s.",
			float64(c.layer.Size)/(1<<20), gigabit.BytesPerSecond/1e6, len(off), Circumstances()),
		Columns: []string{"what", "indexing off", "indexing on", "on ÷ off", "limit"},
		Rows: [][]string{
			{"rate of the stream", mbs(without), mbs(with), fmt.Sprintf("× %.3f", rate), fmt.Sprintf("≥ × %.2f", minRate)},
			{"layer, asked for to last byte", seconds(without), seconds(with), "", ""},
			{"zTOC stored after the last byte", "", millis(soon), "", millis(maxReady)},
		},
	}
	fmt.Printf("\n%s\n", t.Markdown())
	b.ReportMetric(rate, "×rate")
	b.ReportMetric(float64(soon)/1e6, "ms-to-ztoc")
	if rate < minRate || soon > maxReady {
		b.Errorf("over a limit: see the table")
	}
	if doc := os.Getenv("BENCH_DOC"); doc != "" {
		if err := WriteSection(filepath.Join("..", "..", doc), t.Markdown()); err != nil {
			b.Error(err)
		}
	}
}
