package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sociable/sociable/e2e/bigstore"
	"github.com/sociable/sociable/e2e/harness"
)

// Limits of the dashboard over a big store.
const (
	maxMetrics  = 20 * time.Millisecond
	maxPage     = 50 * time.Millisecond
	maxPageSize = 100_000
	maxCost     = 0.01 // of the processor time of a saturated data path
)

// BenchmarkDashboard opens every page over 100,000 images and 1,000,000 spans, and
// then reads small ranges as fast as they come, of a proxy with the dashboard and
// of one without in turns.
func BenchmarkDashboard(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	sociable := os.Getenv("E2E_SOCIABLE")
	if sociable == "" {
		b.Fatal("E2E_SOCIABLE is not set: make bench-dashboard")
	}
	for b.Loop() {
		on, off := overBigStore(ctx, b, sociable, true), overBigStore(ctx, b, sociable, false)
		rows := measurePages(ctx, b, on)
		rows = append(rows, measureCost(ctx, b, on, off)...)
		t := Table{
			Heading: "Dashboard",
			Intro: fmt.Sprintf("Over a store of 100,000 images and 1,000,000 spans (`make big-store`), all on one machine; medians, and the slowest\n"+
				"of 20 in brackets. The cost of the dashboard is processor time per 64 KiB range of a blob in the page cache, eight clients,\n"+
				"against a proxy without it, in turns. %s.", Circumstances()),
			Columns: []string{"what", "measured", "bytes", "limit"}, Rows: rows,
		}
		fmt.Printf("\n%s\n", t.Markdown())
		if doc := os.Getenv("BENCH_DOC"); doc != "" {
			if err := WriteSection(filepath.Join("..", "..", doc), t.Markdown()); err != nil {
				b.Error(err)
			}
		}
	}
}

// overBigStore starts a proxy over its own copy of the big store.
func overBigStore(ctx context.Context, b *testing.B, sociable string, dashboard bool) *harness.Proxy {
	b.Helper()
	cache, err := filepath.Abs(filepath.Join("..", ".cache", "bigstore"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cache, "meta.db")); err != nil {
		if err := bigstore.Generate(ctx, cache, bigstore.Years, func(int) {}); err != nil {
			b.Fatal(err)
		}
	}
	data := b.TempDir()
	if _, err := harness.Run(ctx, "cp", filepath.Join(cache, "meta.db"), data); err != nil {
		b.Fatal(err)
	}
	p, err := harness.NewProxy(&harness.Programs{Sociable: sociable}, data, nil)
	if err != nil {
		b.Fatal(err)
	}
	// With a limit that the rows are beyond, it would be evicting all the while.
	p.Env = []string{"SOCIABLE_STORAGE_MAX_BYTES=100TiB", "SOCIABLE_INDEX_ENABLED=false", fmt.Sprintf("SOCIABLE_ADMIN_DASHBOARD=%v", dashboard), "SOCIABLE_LOG_LEVEL=warn"}
	if err := p.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Stop(); err != nil {
			b.Error(err)
		}
	})
	return p
}

func getPage(ctx context.Context, url string) (body []byte, took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return body, time.Since(start), err
}

// listed waits until all images are in the list, and gives one that was started
// lazily, with its first layer.
func listed(ctx context.Context, b *testing.B, p *harness.Proxy) (image, layer string) {
	b.Helper()
	for {
		body, _, err := getPage(ctx, "http://"+p.Admin+"/api/v1/images?sort=read&order=desc&limit=1")
		if err != nil {
			b.Fatal(err)
		}
		var list struct {
			Loading bool
			Images  []struct{ Manifest string }
		}
		if err := json.Unmarshal(body, &list); err != nil {
			b.Fatal(err)
		}
		if !list.Loading {
			image = list.Images[0].Manifest
			break
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			b.Fatal(context.Cause(ctx))
		}
	}
	body, _, err := getPage(ctx, "http://"+p.Admin+"/api/v1/images/"+image)
	if err != nil {
		b.Fatal(err)
	}
	var one struct {
		List []struct{ Digest string } `json:"layers"`
	}
	if err := json.Unmarshal(body, &one); err != nil {
		b.Fatal(err)
	}
	return image, one.List[0].Digest
}

func measurePages(ctx context.Context, b *testing.B, p *harness.Proxy) (rows [][]string) {
	b.Helper()
	image, layer := listed(ctx, b, p)
	for _, c := range []struct {
		what, path string
		limit      time.Duration
	}{
		{"`/metrics`", "/metrics", maxMetrics}, {"Overview", "/", maxPage}, {"Overview over 7d", "/?range=7d", maxPage},
		{"Images", "/images", maxPage}, {"Images by what is saved, the last page", "/images?sort=saved&order=desc&offset=99950", maxPage},
		{"Images, searched: one match", "/images?q=service-2499+v1.39", maxPage}, {"Images, searched: half of all", "/images?q=arm64", maxPage},
		{"Image", "/images/" + image, maxPage}, {"Layer", "/layers/" + layer, maxPage},
		{"Jobs", "/jobs", maxPage}, {"Missing", "/missing", maxPage}, {"Setup", "/setup", maxPage},
	} {
		var took []time.Duration
		size := 0
		for range 20 {
			body, d, err := getPage(ctx, "http://"+p.Admin+c.path)
			if err != nil {
				b.Fatal(err)
			}
			took, size = append(took, d), len(body)
		}
		slices.Sort(took)
		rows = append(rows, []string{c.what, fmt.Sprintf("%s (%s)", millis(took[10]), millis(took[19])), strconv.Itoa(size), "≤ " + millis(c.limit)})
		if took[10] > c.limit || size > maxPageSize && c.path != "/metrics" {
			b.Errorf("%s: %v, %d bytes", c.what, took[10], size)
		}
	}
	return rows
}

const blobSize = 64 << 20

// pushBlob has the proxy hold one blob, and gives its path.
func pushBlob(ctx context.Context, b *testing.B, p *harness.Proxy) string {
	b.Helper()
	repo, err := name.NewRepository(p.Addr+"/local/bench", name.Insecure)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, blobSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body) // never fails
	layer := static.NewLayer(body, types.OCIUncompressedLayer)
	if err := remote.WriteLayer(repo, layer, remote.WithContext(ctx)); err != nil {
		b.Fatal(err)
	}
	d, err := layer.Digest()
	if err != nil {
		b.Fatal(err)
	}
	return "http://" + p.Addr + "/v2/local/bench/blobs/" + d.String()
}

// saturate reads small ranges for a while, and gives how many and what processor
// time the proxy took.
func saturate(ctx context.Context, b *testing.B, p *harness.Proxy, url string, d time.Duration) (requests int64, cpu time.Duration) {
	b.Helper()
	before := processorTime(b, p.PID())
	end := time.Now().Add(d)
	var n atomic.Int64
	var clients sync.WaitGroup
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	for range 8 {
		clients.Go(func() {
			for time.Now().Before(end) {
				off := rand.Int64N(blobSize - 65536)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+65535))
				resp, err := transport.RoundTrip(req)
				if err != nil {
					b.Error(err)
					return
				}
				k, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || k != 65536 {
					b.Errorf("%d bytes, %v", k, err)
					return
				}
				n.Add(1)
			}
		})
	}
	clients.Wait()
	return n.Load(), processorTime(b, p.PID()) - before
}

// processorTime is what a process took so far (proc(5), fields 14 and 15).
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
	var ticks int64
	for _, f := range fields[11:13] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += v
	}
	return time.Duration(ticks) * (time.Second / 100)
}

func measureCost(ctx context.Context, b *testing.B, on, off *harness.Proxy) [][]string {
	b.Helper()
	type side struct {
		p        *harness.Proxy
		url      string
		requests int64
		cpu      time.Duration
	}
	sides := []*side{{p: on}, {p: off}}
	for _, s := range sides {
		s.url = pushBlob(ctx, b, s.p)
		saturate(ctx, b, s.p, s.url, time.Second) // warm
	}
	const turn = 5 * time.Second
	for k := range 12 {
		s := sides[(k+k/2)%2] // on off off on …
		n, cpu := saturate(ctx, b, s.p, s.url, turn)
		s.requests, s.cpu = s.requests+n, s.cpu+cpu
	}
	per := func(s *side) float64 { return float64(s.cpu) / float64(s.requests) }
	ratio := per(sides[0]) / per(sides[1])
	rate := func(s *side) string { return fmt.Sprintf("%.0f/s", float64(s.requests)/(6*turn.Seconds())) }
	b.ReportMetric(ratio, "×cpu")
	if ratio > 1+maxCost {
		b.Errorf("the dashboard costs %.1f %% of a saturated data path", 100*(ratio-1))
	}
	return [][]string{
		{"processor time per range with the dashboard ÷ without", fmt.Sprintf("× %.3f", ratio), "", fmt.Sprintf("≤ × %.2f", 1+maxCost)},
		{"ranges with it, without it", rate(sides[0]) + ", " + rate(sides[1]), "", ""},
	}
}
