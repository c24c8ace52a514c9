package huge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/bench"
	"github.com/sociable/sociable/e2e/harness"
)

const (
	smallLayer = int64(24 << 20) // where nothing else is said
	maxRSS     = 250 << 20       // of the server, at most
	timeout    = 10 * time.Minute
	reads      = 6 // ranges of a layer that are compared
)

func layerSize(t *testing.T) int64 {
	s := os.Getenv("E2E_HUGE_LAYER")
	if s == "" {
		return smallLayer
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1<<20 {
		t.Fatalf("E2E_HUGE_LAYER is bytes, at least 1 MiB: %q", s)
	}
	return n
}

// TestBackfill indexes an image that is only at its upstream and of which one
// layer fits into the store. The server is killed in the middle of it, and goes on
// by itself.
func TestBackfill(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	x := start(ctx, t, nil)
	began := time.Now()
	if _, err := harness.Run(ctx, x.programs.Sociable, "index", "create", "up/hug*", "--data", x.p.Data); err != nil {
		t.Fatal(err)
	}
	x.until(ctx, t, "a quarter of the image is fetched", x.up.holding)
	x.p.Kill()
	before := x.up.sent.Load()
	if err := x.p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	waiting := x.jobs(ctx, t)
	if waiting == 0 {
		t.Error("no job is left after the kill")
	}
	x.up.goOn()
	x.until(ctx, t, "the image is indexed", func() bool { return x.indexed(ctx, t) })
	took := time.Since(began)
	x.until(ctx, t, "no job is left", func() bool { return x.jobs(ctx, t) == 0 })
	sent := x.up.sent.Load()
	if sent > 2*x.up.size() {
		t.Errorf("the upstream sent %d bytes, of which %d before the kill; the image has %d", sent, before, x.up.size())
	}
	x.compare(ctx, t)
	x.report(t, "Backfill of an image of 20 GB", "It is only at its upstream. The server was killed (kill -9) when a quarter of it was fetched, and\nwent on by itself.", [][]string{
		{"`sociable index create 'up/hug*'` to the index being listed", fmt.Sprintf("%.1f s", took.Seconds()), ""},
		{"jobs that waited after the kill", strconv.Itoa(waiting), "≥ 1"},
		{"bytes from the upstream ÷ the image's", fmt.Sprintf("%s, %s of it before the kill", ratio(sent, x.up.size()), ratio(before, x.up.size())), "2"},
	})
}

func ratio(n, of int64) string { return fmt.Sprintf("%.3f", float64(n)/float64(of)) }

// run is a server between the registry and a store that holds one layer.
type run struct {
	up       *registry
	p        *harness.Proxy
	programs *harness.Programs
	max      int64 // storage.max_bytes
	rss      atomic.Int64
	disk     atomic.Int64 // most bytes that the store took
}

// start has change, if not nil, change the registry before anybody asks it.
func start(ctx context.Context, t *testing.T, change func(*registry)) *run {
	t.Helper()
	programs := &harness.Programs{Sociable: os.Getenv("E2E_SOCIABLE")}
	if programs.Sociable == "" {
		programs.Sociable = filepath.Join(t.TempDir(), "sociable")
		if err := harness.GoBuild(ctx, filepath.Join("..", ".."), "./cmd/sociable", programs.Sociable); err != nil {
			t.Fatal(err)
		}
	}
	up, err := newRegistry(layerSize(t))
	if err != nil {
		t.Fatal(err)
	}
	up.holdAt = up.size() / 4 // so that no layer is whole before the kill
	if change != nil {
		change(up)
	}
	srv := httptest.NewServer(up)
	t.Cleanup(srv.Close)
	t.Cleanup(up.goOn) // first
	x := &run{up: up, programs: programs, max: up.layers[0].Size() * 11 / 10}
	config := filepath.Join(t.TempDir(), "config.yml")
	body := fmt.Sprintf("storage: {max_bytes: %d, min_free: 1GB}\nindex: {rules: [{repositories: [\"**\"], publish: v1}]}\n", x.max)
	if err := os.WriteFile(config, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	x.p, err = harness.NewProxy(programs, t.TempDir(), []string{"up=" + srv.URL}, "--config", config)
	if err == nil {
		err = x.p.Start(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.p.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if t.Failed() {
			t.Logf("sociable's log:\n%s", x.p.Log())
		}
	})
	return x
}

// until polls, and looks at memory and disk meanwhile.
func (x *run) until(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		x.look()
		select {
		case <-tick.C:
		case <-x.p.Exited():
			t.Fatalf("the server ended before %s", what)
		case <-ctx.Done():
			t.Fatalf("not in time: %s\n%s", what, x.state())
		}
	}
	x.look()
}

// state is what there is to say when something does not come to be.
func (x *run) state() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	jobs, err := harness.Run(ctx, x.programs.Sociable, "jobs", "list", "--data", x.p.Data)
	list, lerr := harness.Run(ctx, x.programs.Sociable, "index", "list", "--json", "--data", x.p.Data)
	return fmt.Sprintf("%s%s%v", jobs, list, errors.Join(err, lerr))
}

// look keeps the most memory that a server had, and the most that its store had.
func (x *run) look() {
	if n, err := x.p.PeakRSS(); err == nil && n > x.rss.Load() {
		x.rss.Store(n)
	}
	var n int64
	_ = filepath.WalkDir(x.p.Data, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if fi, err := e.Info(); err == nil {
				n += fi.Size()
			}
		}
		return nil // what goes meanwhile is not there
	})
	if n > x.disk.Load() {
		x.disk.Store(n)
	}
}

func (x *run) indexed(ctx context.Context, t *testing.T) bool {
	t.Helper()
	list, err := x.p.Indexes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return len(list) == 1 && list[0].Index != ""
}

// jobs is how many wait.
func (x *run) jobs(ctx context.Context, t *testing.T) int {
	t.Helper()
	out, err := harness.Run(ctx, x.programs.Sociable, "jobs", "list", "--json", "--data", x.p.Data)
	if err != nil {
		t.Fatal(err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// get copies what the proxy answers, and gives how much that was.
func (x *run) get(ctx context.Context, path, byteRange string, to io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+x.p.Addr+"/v2/up/"+repository+path, nil)
	if err != nil {
		return 0, err
	}
	want := http.StatusOK
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
		want = http.StatusPartialContent
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return 0, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return io.Copy(to, resp.Body)
}

// compare sees that each layer's zTOC has all files, that the referrers API lists
// the index, and that ranges out of all of the layer are its bytes.
func (x *run) compare(ctx context.Context, t *testing.T) {
	t.Helper()
	list, err := x.p.Indexes(ctx)
	if err != nil || len(list) != 1 || len(list[0].Layers) != len(x.up.layers) {
		t.Fatalf("index list: %v, %v", list, err)
	}
	var referrers bytes.Buffer
	_, err = x.get(ctx, "/referrers/"+list[0].Manifest+"?artifactType=application/vnd.amazon.soci.index.v1%2Bjson", "", &referrers)
	if err != nil || !strings.Contains(referrers.String(), list[0].Index) {
		t.Errorf("index %s is not listed: %s, %v", list[0].Index, referrers.Bytes(), err)
	}
	for i, l := range x.up.layers {
		row := list[0].Layers[i]
		if row.Digest != l.digest.String() || row.State != "indexed" || row.Spans < int(l.Size()/(8<<20)) {
			t.Fatalf("layer %s: %+v", l.digest, row)
		}
		for k := range int64(reads) {
			off := k * (l.Size() - 1<<20) / (reads - 1)
			want, got := make([]byte, 1<<20), bytes.Buffer{}
			if _, err := l.ReadAt(want, off); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if _, err := x.get(ctx, "/blobs/"+row.Digest, fmt.Sprintf("bytes=%d-%d", off, off+int64(len(want))-1), &got); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("layer %s at %d: %d bytes that are not its", l.digest, off, got.Len())
			}
		}
	}
	x.look()
}

// report prints the table, and fails where the server took too much.
func (x *run) report(t *testing.T, heading, intro string, rows [][]string) {
	t.Helper()
	rss, disk := x.rss.Load(), x.disk.Load()
	if rss > maxRSS {
		t.Errorf("the server took %d bytes of memory, at most %d are wanted", rss, maxRSS)
	}
	var spans, files int
	for _, l := range x.up.layers {
		files += l.files
	}
	list, err := x.p.Indexes(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("index list: %v, %v", list, err)
	}
	for _, l := range list[0].Layers {
		spans += l.Spans
	}
	table := bench.Table{
		Heading: heading,
		Intro: fmt.Sprintf("Two different layers of %.1f GB each, compressed, with %d files of 1 MiB together and, indexed, %d spans; made as they are\n"+
			"read by a server on the same machine. %s The store may take %.1f GB (storage.max_bytes). By `make huge`, one run.\n%s.",
			float64(x.up.layers[0].Size())/1e9, files, spans, intro, float64(x.max)/1e9, bench.Circumstances()),
		Columns: []string{"what", "measured", "limit"},
		Rows: append(rows,
			[]string{"peak memory of the server", fmt.Sprintf("%.0f MiB", float64(rss)/(1<<20)), fmt.Sprintf("%d MiB", maxRSS>>20)},
			[]string{"most that the store's folder had", fmt.Sprintf("%.1f GB", float64(disk)/1e9), ""}),
	}
	t.Log("\n" + table.Markdown())
	if doc := os.Getenv("BENCH_DOC"); doc != "" && !t.Failed() {
		if err := bench.WriteSection(filepath.Join("..", "..", doc), table.Markdown()); err != nil {
			t.Error(err)
		}
	}
}
