package wild

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/awslabs/soci-snapshotter/ztoc"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/bench"
)

// median of what was measured; of an even number the upper one.
func (s samples) median(what string) float64 {
	xs := slices.Sorted(slices.Values(s[what]))
	if len(xs) == 0 {
		return 0
	}
	return xs[len(xs)/2]
}

// row is one of the table.
type row struct {
	what, hand, ours, target string
	met                      bool
	fact                     bool // bytes and requests, not time: missed, the test fails
}

// report prints the table, and fails where bytes or requests miss their target:
// how long something took depends on what else the machine does. What was not
// measured has no row.
func (s samples) report(t *testing.T) {
	tab := bench.Table{
		Heading: "Containers started lazily",
		Intro: fmt.Sprintf("containerd %s, runc and soci-snapshotter v0.15.0 with FUSE start an image of real files, %.0f MB in %d layers, that runs Python with\n"+
			"numpy and scipy, over a link of %v a request and %d MB/s between node and registry, and another such between the proxy and its\n"+
			"upstream. By hand: Debian's docker-registry with the indexes that the official tool made and pushed. %s in turns, each\n"+
			"on a new node; all on one machine. By `make wild`. %s.",
			ContainerdVersion, float64(imageSize())/1e6, len(suite.image.Layers), wire.Latency, wire.BytesPerSecond/1e6, s.runs(), bench.Circumstances()),
		Columns: []string{"what", "by hand", "through sociable", "target", "verdict"},
	}
	for _, r := range s.rows() {
		verdict := ""
		if r.target != "" {
			if verdict = "pass"; !r.met {
				verdict = "**fail**"
			}
			if r.fact && !r.met {
				t.Errorf("%s: %s by hand, %s through sociable, the target is %s", r.what, r.hand, r.ours, r.target)
			}
		}
		tab.Rows = append(tab.Rows, []string{r.what, r.hand, r.ours, r.target, verdict})
	}
	t.Logf("\n%s", tab.Markdown())
	if doc := os.Getenv("BENCH_DOC"); doc != "" {
		if err := bench.WriteSection(filepath.Join("..", "..", doc), tab.Markdown()); err != nil {
			t.Fatal(err)
		}
	}
}

// runs tells how often the rows were measured.
func (s samples) runs() string {
	least, most := 1<<30, 0
	for _, what := range []string{"v1 warm s", "full warm s", "files warm s", "learned, prefetch s"} {
		if n := len(s[what]); n > 0 {
			least, most = min(least, n), max(most, n)
		}
	}
	if least < most {
		return fmt.Sprintf("Medians of %d to %d runs", least, most)
	}
	if most == 1 {
		return "One run of each"
	}
	return fmt.Sprintf("Medians of %d runs", most)
}

func (s samples) rows() (rows []row) {
	add := func(need string, r row) {
		if len(s[need]) > 0 {
			rows = append(rows, r)
		}
	}
	for _, v := range []string{"v1", "v2"} {
		hand, ours := s.median(v+" by hand s"), s.median(v+" warm s")
		add(v+" warm s", row{"lazy " + v + ", start of pull to first output", seconds(hand), seconds(ours), "≤ by hand", ours <= hand, false})
	}
	for _, v := range []string{"v1", "v2"} {
		hand, ours := s.median(v+" by hand MB"), s.median(v+" warm MB")
		add(v+" warm MB", row{"… bytes to the node, " + v, megabytes(hand), megabytes(ours), "≤ by hand", ours <= hand, true})
	}
	asked := s.median("upstream requests, warm")
	add("upstream requests, warm", row{"… requests to the upstream, both", "–", fmt.Sprint(asked), "0", asked == 0, true})
	for _, name := range []string{"zTOCs only", "spans and zTOCs"} {
		ratio := s.median(name + " upstream ÷ asked")
		add(name+" s", row{"lazy v1, whole layers evicted, the proxy holds " + name, "–",
			seconds(s.median(name+" s")) + "; from upstream " + megabytes(s.median(name+" upstream MB")) + fmt.Sprintf(" (× %.3f)", ratio),
			"≤ × 1.1 the spans asked for", ratio <= 1.1, true})
	}
	add("full cold s", row{"full pull, start of pull to first output", seconds(s.median("full by hand s")),
		seconds(s.median("full cold s")) + " cold, " + seconds(s.median("full warm s")) + " warm", "", true, false})
	add("full warm MB", row{"… bytes to the node", megabytes(s.median("full by hand MB")), megabytes(s.median("full warm MB")), "", true, false})
	listed := s.median("listed s")
	add("listed s", row{"index listed after the first pull's last byte (by hand: create and push)", seconds(s.median("soci create s")),
		milliseconds(listed * 1e3), "≤ 200 ms", listed <= 0.2, false})
	direct, through := s.median("span direct ms"), s.median("span through ms")
	add("span direct ms", row{"one span that has to come from the upstream (by hand: directly)", milliseconds(direct), milliseconds(through),
		"≤ direct + 5 ms", through <= direct+5, false})
	hand, ours := s.median("files by hand s"), s.median("files warm s")
	add("files warm s", row{"start of pull until every file is read and hashed, all equal", seconds(hand), seconds(ours), "≤ by hand", ours <= hand, false})
	return append(rows, s.learnedRows()...)
}

// learnedRows are those of starts that were learnt from, if they were measured.
func (s samples) learnedRows() (rows []row) {
	if len(s["learned, prefetch s"]) == 0 {
		return nil
	}
	hand, warm, prefetch := s.median("learned, by hand s"), s.median("learned, warm s"), s.median("learned, prefetch s")
	rows = append(rows,
		row{"lazy v1, learned, nodes prefetch", seconds(hand), seconds(prefetch) + " (" + seconds(warm) + " by nodes that don't)",
			"≥ 1.4 × faster than by hand", hand >= 1.4*prefetch, false},
		row{"… bytes to the node", megabytes(s.median("learned, by hand MB")), megabytes(s.median("learned, prefetch MB")), "", true, false})
	for _, x := range []struct {
		what, evicted string
		base          float64
	}{{"nodes don't prefetch", "learned, evicted", warm}, {"nodes prefetch", "learned, evicted, prefetch", prefetch}} {
		took := s.median(x.evicted + " s")
		rows = append(rows, row{
			"lazy v1, learned, the proxy holds zTOCs only, upstream of 100 ms a request, " + x.what, "–",
			fmt.Sprintf("%s (× %.2f of warm); from upstream %s", seconds(took), took/x.base, megabytes(s.median(x.evicted+" upstream MB"))),
			"≤ 1.3 × warm", took <= 1.3*x.base, false})
	}
	return rows
}

func seconds(s float64) string       { return fmt.Sprintf("%.2f s", s) }
func milliseconds(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
func megabytes(mb float64) string    { return fmt.Sprintf("%.1f MB", mb) }

// spansOf are the offsets in a layer at which its spans begin.
func (p *proxy) spansOf(t *testing.T, layer digest.Digest) (starts []int64) {
	t.Helper()
	toc, err := ztoc.Unmarshal(bytes.NewReader(p.zTOC(t, layer)))
	if err != nil {
		t.Fatal(err)
	}
	spans, err := toc.Zinfo()
	if err != nil {
		t.Fatal(err)
	}
	defer spans.Close()
	for id := range spans.MaxSpanID() + 1 {
		starts = append(starts, int64(spans.StartCompressedOffset(id)))
	}
	return starts
}

// zTOC is the one that the proxy made of a layer.
func (p *proxy) zTOC(t *testing.T, layer digest.Digest) []byte {
	t.Helper()
	list, err := p.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		for _, l := range i.Layers {
			if l.Digest == layer.String() && l.ZTOC != "" {
				body, err := get(t.Context(), "http://"+p.Addr+"/v2/up/"+suite.image.Repo()+"/blobs/"+l.ZTOC, "")
				if err != nil {
					t.Fatal(err)
				}
				return body
			}
		}
	}
	t.Fatalf("no zTOC of %s", layer)
	return nil
}
