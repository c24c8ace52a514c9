package wild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/link"
)

// samples are what was measured, by what that is.
type samples map[string][]float64

// TestMeasure measures starts by hand and through the proxy, in turns, over the
// same wire, and prints a table. In the environment:
//
//	BENCH_RUNS   how often, of which the median counts (3)
//	BENCH_DOC    file, from the root of the repository, whose section the table replaces
//	WILD_SAMPLES file of samples that those of this run are added to: so that one
//	             can measure in pieces, with -run TestMeasure/lazy for example
func TestMeasure(t *testing.T) {
	s := samples{}
	keep := os.Getenv("WILD_SAMPLES")
	if keep != "" {
		body, err := os.ReadFile(keep)
		if err == nil {
			err = json.Unmarshal(body, &s)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	runs := 3
	if n := os.Getenv("BENCH_RUNS"); n != "" {
		var err error
		if runs, err = strconv.Atoi(n); err != nil || runs < 1 {
			t.Fatalf("BENCH_RUNS=%q is no number of runs", n)
		}
	}
	for range runs {
		t.Run("full", s.full)
		t.Run("lazy", s.lazy)
		t.Run("files", s.files)
		t.Run("span", s.span)
		t.Run("learned", s.learned)
		if t.Failed() {
			return
		}
		if err := s.save(keep); err != nil {
			t.Fatal(err)
		}
	}
	s.report(t)
}

// save writes the samples to a file, if it has a name.
func (s samples) save(file string) error {
	if file == "" {
		return nil
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o600)
}

func (s samples) add(what string, x float64) { s[what] = append(s[what], x) }

// start measures a start on a new node over a link, and what that moved. The
// node is gone afterwards: it would go on reading in the background.
func (s samples) start(t *testing.T, what string, opt NodeOptions, snapshotter, ref string, down *link.Link) {
	t.Helper()
	syscall.Sync() // so that nobody waits for what the node before wrote
	onNode(t, opt, func(n *Node) {
		down.Forget()
		took := start(t, n, snapshotter, ref)
		moved := down.Bytes()
		s.add(what+" s", took.Seconds())
		s.add(what+" MB", float64(moved)/1e6)
		t.Logf("%s: %v, %d bytes", what, took, moved)
		if snapshotter == Lazy {
			wantLazy(t, n)
		}
	})
}

// onNode runs do with a new node.
func onNode(t *testing.T, opt NodeOptions, do func(*Node)) {
	t.Helper()
	n, err := StartNode(suite.ctx, suite.nodes, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Errorf("close the node: %v", err)
		}
	}()
	do(n)
}

// wantLazy holds that every layer is mounted lazily.
func wantLazy(t *testing.T, n *Node) {
	t.Helper()
	if mounted, err := n.LazyMounts(); err != nil || mounted != len(suite.image.Layers) {
		t.Errorf("%d layers are mounted lazily (%v), want all %d", mounted, err, len(suite.image.Layers))
	}
}

// full measures plain pulls: by hand, through a proxy that has never seen the
// image, and through the same one afterwards. What is by hand comes first, in the
// middle or last, from run to run: each leaves the machine a little busier.
func (s samples) full(t *testing.T) {
	hand := startByHand(t)
	s.add("soci create s", hand.took.Seconds())
	p := startProxy(t)
	steps := []func(){func() { s.fullCold(t, p) }, func() {
		p.up.Forget()
		s.start(t, "full warm", NodeOptions{}, Plain, p.ref(), p.down)
		s.nothingAsked(t, p)
	}}
	steps = slices.Insert(steps, len(s["full by hand s"])%3, func() {
		s.start(t, "full by hand", NodeOptions{}, Plain, hand.ref(), hand.down)
	})
	for _, step := range steps {
		step()
	}
}

// fullCold measures the first pull, and how soon behind it the index is listed.
func (s samples) fullCold(t *testing.T, p *proxy) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listed := make(chan time.Duration, 1)
	go func() { listed <- p.listedAfter(ctx) }()
	s.start(t, "full cold", NodeOptions{}, Plain, p.ref(), p.down)
	late := <-listed
	s.add("listed s", late.Seconds())
	t.Logf("index listed %v after the last byte", late)
}

// nothingAsked holds that a warm proxy did not turn to its upstream.
func (s samples) nothingAsked(t *testing.T, p *proxy) {
	t.Helper()
	if asked := p.up.Requests(); len(asked) > 0 {
		t.Errorf("the upstream was asked for %v", asked)
	}
	s.add("upstream requests, warm", float64(len(p.up.Requests())))
}

// listedAfter is how long after the last byte of the last layer the index was
// listed, to 5 ms. Both are waited for at once: that the index is listed may be
// answered late, since it is held while the index is under way.
func (p *proxy) listedAfter(ctx context.Context) time.Duration {
	url := fmt.Sprintf("http://%s/v2/up/%s/referrers/%s", p.Addr, suite.image.Repo(), suite.image.Digest)
	sent := make(chan time.Time, 1)
	go func() { sent <- firstTime(ctx, p.layersSent) }()
	listed := firstTime(ctx, func() bool { return lists(ctx, url) })
	last := <-sent
	if ctx.Err() != nil {
		return -1
	}
	return max(0, listed.Sub(last))
}

// firstTime is when so was true first, to 5 ms.
func firstTime(ctx context.Context, so func() bool) time.Time {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}
		}
	}
	return time.Now()
}

func (p *proxy) layersSent() bool {
	for _, l := range suite.image.Layers {
		if p.down.Bytes(link.Blob(l.Digest)) < l.Size {
			return false
		}
	}
	return true
}

func lists(ctx context.Context, url string) bool {
	body, err := get(ctx, url, "")
	var index struct {
		Manifests []struct{ ArtifactType string }
	}
	if err != nil || json.Unmarshal(body, &index) != nil {
		return false
	}
	return len(index.Manifests) > 0
}

// get reads an answer whole; ranges is a Range header or "".
func get(ctx context.Context, url, ranges string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// warm has the proxy fetch the image over an unlimited link, and waits for both
// forms of its index.
func (p *proxy) warm(t *testing.T) {
	t.Helper()
	p.up.Set(link.Options{})
	defer p.up.Set(wire)
	base := "http://" + p.Addr + "/v2/up/" + suite.image.Repo()
	for _, path := range append([]string{"/manifests/1"}, blobPaths()...) {
		if _, err := get(t.Context(), base+path, ""); err != nil {
			t.Fatal(err)
		}
	}
	p.awaitIndex(t)
	p.awaitConverted(t)
	p.up.Forget()
}

func blobPaths() (paths []string) {
	for _, d := range suite.image.Blobs() {
		paths = append(paths, "/blobs/"+d.String())
	}
	return paths
}

// lazyStarts is how often a run measures each lazy start: one takes seconds, and
// what is compared differs by tenths of one.
const lazyStarts = 3

// lazy measures lazy starts by either form of index, by hand and through a warm
// proxy in turns; then through one whose whole layers are evicted: with nothing
// left of them but the zTOCs, and on the next node, with the spans of that start.
func (s samples) lazy(t *testing.T) {
	hand := startByHand(t)
	p := startProxy(t)
	p.warm(t)
	for range lazyStarts {
		for _, tt := range []struct {
			name, tag string
			v1        bool
		}{{"v1", "", true}, {"v2", "-soci", false}} {
			s.start(t, tt.name+" by hand", NodeOptions{V1: tt.v1}, Lazy, hand.ref()+tt.tag, hand.down)
			s.start(t, tt.name+" warm", NodeOptions{V1: tt.v1}, Lazy, p.ref()+tt.tag, p.down)
			s.nothingAsked(t, p)
		}
	}
	for _, l := range suite.image.Layers {
		if err := p.Purge(t.Context(), l.Digest.String()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"zTOCs only", "spans and zTOCs"} {
		p.up.Forget()
		s.start(t, name, NodeOptions{V1: true}, Lazy, p.ref(), p.down)
		asked, fetched := p.down.Bytes(link.All(link.Blob(), link.Ranged)), p.up.Bytes()
		s.add(name+" upstream MB", float64(fetched)/1e6)
		s.add(name+" upstream ÷ asked", float64(fetched)/float64(asked))
		t.Logf("%s: %d bytes of spans asked for, %d from the upstream in %d requests", name, asked, fetched, len(p.up.Requests()))
	}
}

// files measures how long it takes until every file of the image was read lazily
// and hashed, from the start of the pull.
func (s samples) files(t *testing.T) {
	hand := startByHand(t)
	p := startProxy(t)
	p.warm(t)
	for _, tt := range []struct{ name, ref string }{{"files by hand", hand.ref()}, {"files warm", p.ref()}} {
		var printed string
		syscall.Sync()
		onNode(t, NodeOptions{V1: true}, func(n *Node) {
			began := time.Now()
			if err := n.Pull(t.Context(), Lazy, tt.ref); err != nil {
				t.Fatal(err)
			}
			var err error
			if printed, err = n.Run(t.Context(), Lazy, tt.ref, "python3", "-c", hashProgram); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			s.add(tt.name+" s", took.Seconds())
			t.Logf("%s: %v", tt.name, took)
			wantLazy(t, n)
		})
		compareFiles(t, printed)
	}
	s.nothingAsked(t, p)
}

// span measures how long a span takes that has to be fetched from the upstream,
// beside the same range of the upstream itself.
func (s samples) span(t *testing.T) {
	p := startProxy(t)
	p.warm(t)
	layer := suite.image.Layers[2]
	if err := p.Purge(t.Context(), layer.Digest.String()); err != nil {
		t.Fatal(err)
	}
	path := "/v2/up/" + suite.image.Repo() + "/blobs/" + layer.Digest.String()
	spans := p.spansOf(t, layer.Digest)
	syscall.Sync()             // so that nobody waits for what warming wrote
	for n := 10; n < 20; n++ { // apart from each other: neighbours share a byte
		r := fmt.Sprintf("bytes=%d-%d", spans[2*n], spans[2*n+1]-1)
		began := time.Now()
		direct, err := get(t.Context(), p.up.URL()+"/v2/"+suite.image.Repo()+"/blobs/"+layer.Digest.String(), r)
		if err != nil {
			t.Fatal(err)
		}
		s.add("span direct ms", time.Since(began).Seconds()*1e3)
		began = time.Now()
		through, err := get(t.Context(), "http://"+p.Addr+path, r)
		if err != nil || digest.FromBytes(through) != digest.FromBytes(direct) {
			t.Fatalf("%s through the proxy: %v, %d bytes of %d", r, err, len(through), len(direct))
		}
		s.add("span through ms", time.Since(began).Seconds()*1e3)
	}
}
