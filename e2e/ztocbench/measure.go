package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sociable/sociable/e2e/ztocbench/peak"
)

// programs are what is measured, each a program of its own.
type programs struct{ ours, official, reader, sociable string }

// buildPrograms builds them: the product's without cgo, as it is shipped.
func buildPrograms(ctx context.Context, e2e, dir string) (programs, error) {
	p := programs{filepath.Join(dir, "ours"), filepath.Join(dir, "official"), filepath.Join(dir, "reader"), filepath.Join(dir, "sociable")}
	for _, b := range []struct{ out, from, pkg, cgo string }{
		{p.ours, e2e, "./ztocbench/ours", "0"}, {p.official, e2e, "./ztocbench/official", "1"}, {p.reader, e2e, "./ztocbench/reader", "0"},
		{p.sociable, filepath.Join(e2e, ".."), "./cmd/sociable", "0"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.out, b.pkg)
		cmd.Dir = b.from
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+b.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("build %s: %w\n%s", b.pkg, err, out)
		}
	}
	return p, nil
}

// cost is what a process took.
type cost struct {
	wall, user time.Duration
	rss        int64 // bytes at most, of programs that tell it
	out        string
}

// better is the best of each of two costs, and the most of the memory.
func (c cost) better(d cost) cost {
	if c.wall == 0 {
		return d
	}
	return cost{min(c.wall, d.wall), min(c.user, d.user), max(c.rss, d.rss), d.out}
}

// runProgram runs a program once.
func runProgram(ctx context.Context, env []string, name string, args ...string) (cost, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	wall := time.Since(start)
	c := cost{wall: wall, user: cmd.ProcessState.UserTime(), out: strings.TrimSpace(out.String())}
	if errs.Len() == 0 { // the product's command doesn't tell
		return c, nil
	}
	var err error
	if c.rss, err = peak.Of(errs.Bytes()); err != nil {
		return c, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return c, nil
}

// layerCosts are the costs of building one layer.
type layerCosts struct {
	layer
	official, officialOne cost // the second with one processor
	ours, oursOne         cost
	diffID, digest, both  cost // ours, with the diffID, the layer's digest, or both too
	hash                  cost // sha256 of the compressed bytes, and nothing else
}

// results are all that is measured.
type results struct {
	layers    []layerCosts
	inflate   map[string]inflated // by layer
	info, get inProcess
	// The command's own, as processes.
	infoCommand, getCommand cost
	finish                  time.Duration // median
	large                   cost          // of a build of the layer of 10 GB
	largeSize               int64
	runs                    int
}

func measure(ctx context.Context, e2e string, bins programs, layers []layer, runs int) (*results, error) {
	r := &results{runs: runs}
	for _, l := range layers {
		c, err := measureLayer(ctx, bins, l, runs)
		if err != nil {
			return nil, err
		}
		r.layers = append(r.layers, c)
	}
	var err error
	if r.inflate, err = measureInflate(ctx, e2e, layers); err != nil {
		return nil, err
	}
	return r, r.measureReader(ctx, bins, filepath.Dir(layers[0].path), runs)
}

// measureLayer builds one layer in all ways, in turn.
func measureLayer(ctx context.Context, bins programs, l layer, runs int) (layerCosts, error) {
	c := layerCosts{layer: l}
	if err := warm(l.path); err != nil {
		return c, err
	}
	one := []string{"GOMAXPROCS=1"}
	for i := range runs {
		fmt.Fprintf(os.Stderr, "\r%-10s run %d of %d ", l.name, i+1, runs)
		for _, w := range []struct {
			to      *cost
			env     []string
			program string
			args    []string
		}{
			{&c.official, nil, bins.official, nil},
			{&c.ours, nil, bins.ours, nil},
			{&c.officialOne, one, bins.official, nil},
			{&c.oursOne, one, bins.ours, nil},
			{&c.diffID, nil, bins.ours, []string{"-diffid"}},
			{&c.digest, nil, bins.ours, []string{"-digest"}},
			{&c.both, nil, bins.ours, []string{"-digest", "-diffid"}},
			{&c.hash, nil, bins.ours, []string{"-sha256"}},
		} {
			got, err := runProgram(ctx, w.env, w.program, append(w.args, l.path)...)
			if err != nil {
				return c, err
			}
			if want := c.official.out; w.to != &c.hash && want != "" && got.out != want {
				return c, fmt.Errorf("layer %s: %s makes %s, the official builder %s", l.name, w.program, got.out, want)
			}
			*w.to = w.to.better(got)
		}
	}
	fmt.Fprint(os.Stderr, "\r\x1b[K")
	return c, nil
}

// warm reads a file into the page cache.
func warm(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// inflated is what decoding one layer takes.
type inflated struct{ ratio, mbPerSecond float64 }

// measureInflate runs the decoder's own benchmark on the layers.
func measureInflate(ctx context.Context, e2e string, layers []layer) (map[string]inflated, error) {
	dir := filepath.Dir(layers[0].path)
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Layers", "-benchtime", "4x",
		"./ztoc/internal/inflate", "-args", "-layers", filepath.Join(dir, "*.tar.gz"))
	cmd.Dir = filepath.Join(e2e, "..")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("benchmark of inflate: %w\n%s", err, out)
	}
	found := map[string]inflated{}
	for line := range strings.Lines(string(out)) {
		name, rest, ok := strings.Cut(line, ".tar.gz")
		name, ours := strings.CutPrefix(name, "BenchmarkLayers/")
		if !ok || !ours {
			continue
		}
		v := inflated{figure(rest, "ratio"), figure(rest, "MB/s")}
		if v.ratio > 0 && v.mbPerSecond > 0 {
			found[name] = v
		}
	}
	if len(found) != len(layers) {
		return nil, fmt.Errorf("benchmark of inflate: %d figures for %d layers\n%s", len(found), len(layers), out)
	}
	return found, nil
}

// figure is the number in front of a unit; 0 if there is none.
func figure(line, unit string) float64 {
	f := strings.Fields(line)
	for i := 1; i < len(f); i++ {
		if f[i] == unit {
			v, err := strconv.ParseFloat(f[i-1], 64)
			if err == nil {
				return v
			}
		}
	}
	return 0
}

// inProcess is what reading a zTOC takes by itself, and how much of it is read.
type inProcess struct {
	wall time.Duration
	read int64 // bytes
	out  string
}

// better is the faster of two.
func (p inProcess) better(q inProcess) inProcess {
	if p.wall == 0 || q.wall < p.wall {
		return q
	}
	return p
}

// measureReader builds and reads the zTOC of a layer of 10 GB.
func (r *results) measureReader(ctx context.Context, bins programs, dir string, runs int) error {
	ztoc, layer := filepath.Join(dir, "large.ztoc"), filepath.Join(dir, "large.tar.gz.layer")
	if err := makeLarge(ctx, bins, ztoc, layer); err != nil {
		return err
	}
	var err error
	if r.largeSize, err = sizeOf(ztoc); err != nil {
		return err
	}
	var finishes []time.Duration
	for range runs {
		c, err := runProgram(ctx, nil, bins.reader, "finish", layer)
		if err != nil {
			return err
		}
		us, err := strconv.Atoi(c.out)
		if err != nil {
			return err
		}
		finishes = append(finishes, time.Duration(us)*time.Microsecond)
		r.large = r.large.better(c)
	}
	slices.Sort(finishes)
	r.finish = finishes[len(finishes)/2]
	for range runs {
		if err := r.readLarge(ctx, bins, ztoc, layer); err != nil {
			return err
		}
	}
	return nil
}

// makeLarge makes the layer of 10 GB, once.
func makeLarge(ctx context.Context, bins programs, ztoc, layer string) error {
	return once(ztoc, func(to string) error {
		_, err := runProgram(ctx, nil, bins.reader, "make", to, layer)
		return err
	})
}

// readLarge reads it once, by the package alone and by the command.
func (r *results) readLarge(ctx context.Context, bins programs, ztoc, layer string) error {
	for _, w := range []struct {
		to   *inProcess
		args []string
	}{{&r.info, []string{"info", ztoc}}, {&r.get, []string{"get", ztoc, layer}}} {
		c, err := runProgram(ctx, nil, bins.reader, w.args...)
		if err != nil {
			return err
		}
		var got inProcess
		var us int64
		if _, err := fmt.Sscan(c.out, &us, &got.read); err != nil {
			return fmt.Errorf("%q: %w", c.out, err)
		}
		got.wall = time.Duration(us) * time.Microsecond
		_, got.out, _ = strings.Cut(c.out, ": ")
		*w.to = w.to.better(got)
	}
	for _, w := range []struct {
		to   *cost
		args []string
	}{
		{&r.infoCommand, []string{"ztoc", "info", ztoc}},
		{&r.getCommand, []string{"ztoc", "get-file", ztoc, largeFile, "--layer", layer}},
	} {
		c, err := runProgram(ctx, nil, bins.sociable, w.args...)
		if err != nil {
			return err
		}
		*w.to = w.to.better(c)
	}
	return nil
}

// largeFile is the one that is read: see reader.
const largeFile = "usr/lib/large/250/some-library-25000.so.1.2.3"

// machine says where it was measured.
func machine() string {
	model := runtime.GOARCH
	if p, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(p), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	return fmt.Sprintf("%s, %d processors, %s", model, runtime.NumCPU(), runtime.Version())
}
