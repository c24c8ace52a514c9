package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

// row is one figure for all layers.
type row struct {
	what      string
	must, aim float64
	of        func(*layerCosts) (over, under float64) // each summed up, then divided
}

// ratio is how many times longer theirs takes than ours.
func ratio(f func(*layerCosts) (ours, theirs time.Duration)) func(*layerCosts) (float64, float64) {
	return func(c *layerCosts) (float64, float64) {
		ours, theirs := f(c)
		return theirs.Seconds(), ours.Seconds()
	}
}

var rows = []row{
	{what: "build, wall, all processors, official ÷ ours", must: 3.5, aim: 4.5, of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.ours.wall, c.official.wall })},
	{what: "build, user CPU, official ÷ ours", must: 3, aim: 4, of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.ours.user, c.official.user })},
	{what: "build, GOMAXPROCS=1, wall, official ÷ ours", must: 3, aim: 4, of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.oursOne.wall, c.officialOne.wall })},
	{what: "build with diffID too, wall, official ÷ ours", must: 3, aim: 4, of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.diffID.wall, c.official.wall })},
	{what: "build with the layer's digest too, wall, official ÷ ours", of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.digest.wall, c.official.wall })},
	{what: "build with the layer's digest too, user CPU, official ÷ ours", of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.digest.user, c.official.user })},
	{what: "build with diffID and the layer's digest too, wall, official ÷ ours", of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.both.wall, c.official.wall })},
	{what: "build with diffID and the layer's digest too, user CPU, official ÷ ours", of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.both.user, c.official.user })},
	{what: "the floor: wall, official ÷ sha256 alone", of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.hash.wall, c.official.wall })},
	{what: "the floor: user CPU, official ÷ sha256 alone", of: ratio(func(c *layerCosts) (a, b time.Duration) { return c.hash.user, c.official.user })},
}

// table writes the results as Markdown, and how many figures are missed.
func (r *results) table(ctx context.Context) (text string, missed int) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nMeasured %s on %s, at commit %s, by `make bench-ztoc`: each figure the best of %d runs, the two builders in turn,\n"+
		"single layer, warm page cache, 4 MiB spans; \"all\" is the four layers together. Both builders gave the same bytes each time.\n"+
		"Like the official one, ours leaves the layer's own digest out, but for four rows. Both hash every compressed byte once, for\n"+
		"the spans: what sha256 alone takes is the floor of user CPU, and of wall time on one processor.\n\n",
		section, time.Now().UTC().Format(time.DateOnly), machine(), commit(ctx), r.runs)
	four, stored := r.layers[:len(r.layers)-1], r.layers[len(r.layers)-1]

	b.WriteString("| layer | uncompressed | compressed | official: wall, user CPU, memory | ours | sha256 alone |\n|---|---|---|---|---|---|\n")
	for _, l := range r.layers {
		fmt.Fprintf(&b, "| %s: %s | %d MB | %d MB | %s | %s | %.2f s, %.2f s |\n", l.name, l.what, l.plain/1e6, l.size/1e6,
			l.official, l.ours, l.hash.wall.Seconds(), l.hash.user.Seconds())
	}
	b.WriteString("\n| what | must | aim | all |")
	for _, l := range four {
		fmt.Fprintf(&b, " %s |", l.name)
	}
	b.WriteString("\n|---|---|---|---|" + strings.Repeat("---|", len(four)) + "\n")
	var low []string // what single layers miss
	for _, w := range rows {
		miss, each := w.write(&b, four)
		missed += miss
		low = append(low, each...)
	}
	miss, each := r.writeInflate(&b, four)
	missed += miss
	low = append(low, each...)
	missed += r.writeRest(&b, four, stored)
	if len(low) > 0 {
		fmt.Fprintf(&b, "\nMissed by single layers, with the same figure of sha256 alone beside those of builds: %s.\n", strings.Join(low, "; "))
	}
	return b.String(), missed
}

func (c cost) String() string {
	return fmt.Sprintf("%.2f s, %.2f s, %.0f MiB", c.wall.Seconds(), c.user.Seconds(), float64(c.rss)/(1<<20))
}

// write writes one row, says 1 if it is missed by all layers together, and what
// single layers miss.
func (w row) write(b *strings.Builder, layers []layerCosts) (missed int, low []string) {
	var over, under float64
	var each string
	for i := range layers {
		x, y := w.of(&layers[i])
		over += x
		under += y
		if x/y < w.must {
			each += fmt.Sprintf(" **%.1f× missed** |", x/y)
			alone := layers[i]
			alone.ours, alone.oursOne, alone.diffID = alone.hash, alone.hash, alone.hash
			fx, fy := w.of(&alone)
			low = append(low, fmt.Sprintf("%s, %s: %.1f× (%.1f×)", layers[i].name, strings.TrimSuffix(w.what, ", official ÷ ours"), x/y, fx/fy))
			continue
		}
		each += fmt.Sprintf(" %.1f× |", x/y)
	}
	must, aim := "", ""
	if w.must > 0 {
		must, aim = fmt.Sprintf("≥ %g×", w.must), fmt.Sprintf("%g×", w.aim)
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s |%s\n", w.what, must, aim, judged(over/under, w.must, w.aim), each)
	if over/under < w.must {
		missed = 1
	}
	return missed, low
}

// judged is a ratio, with a word on how it compares.
func judged(v, must, aim float64) string {
	switch {
	case must == 0:
		return fmt.Sprintf("%.1f×", v)
	case v < must:
		return fmt.Sprintf("**%.1f× missed**", v)
	case v < aim:
		return fmt.Sprintf("%.1f× met", v)
	}
	return fmt.Sprintf("%.1f× aim met", v)
}

// writeInflate is the row on the decoder alone; for all layers together, the
// times that each of the two takes are summed up.
func (r *results) writeInflate(b *strings.Builder, layers []layerCosts) (missed int, low []string) {
	const must, aim = 2, 2.4
	var each string
	var ours, theirs float64
	for _, l := range layers {
		v := r.inflate[l.name]
		seconds := float64(l.plain) / 1e6 / v.mbPerSecond
		ours += seconds
		theirs += v.ratio * seconds
		if v.ratio < must {
			each += fmt.Sprintf(" **%.1f× missed** |", v.ratio)
			low = append(low, fmt.Sprintf("%s, inflate alone: %.1f×", l.name, v.ratio))
			continue
		}
		each += fmt.Sprintf(" %.1f× |", v.ratio)
	}
	fmt.Fprintf(b, "| inflate alone, klauspost/compress/flate ÷ ours, same process | ≥ %g× | %g× | %s |%s\n", float64(must), aim, judged(theirs/ours, must, aim), each)
	if theirs/ours < must {
		missed = 1
	}
	return missed, low
}

// writeRest are the rows with a figure of their own.
func (r *results) writeRest(b *strings.Builder, four []layerCosts, stored layerCosts) (missed int) {
	line := func(what, must, aim, got string, ok bool) {
		if !ok {
			got = "**" + got + " missed**"
			missed++
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |%s\n", what, must, aim, got, strings.Repeat(" |", len(four)))
	}
	largest := four[0]
	for _, l := range four {
		if l.plain > largest.plain {
			largest = l
		}
	}
	rss := float64(largest.ours.rss) / (1 << 20)
	line(fmt.Sprintf("most resident memory of one build, layer of %d MB", largest.plain/1e6), "≤ 24 MiB", "16 MiB", fmt.Sprintf("%.0f MiB", rss), rss <= 24)
	v := stored.ours.user.Seconds() / stored.official.user.Seconds()
	line("stored-only layer (level 0), user CPU, ours ÷ official", "≤ 2×", "1.5×", fmt.Sprintf("%.2f×", v), v <= 2)
	const most = 50 * time.Millisecond
	ms := func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }
	line(fmt.Sprintf("`sociable ztoc info`, the whole process, a ztoc of %d MB (layer of 10 GB: %s)", r.largeSize/1e6, r.info.out),
		"≤ 50 ms", "", ms(r.infoCommand.wall), r.infoCommand.wall <= most)
	line("the same in a process that runs: all that it shows is read", "≤ 50 ms", "",
		fmt.Sprintf("%s, %.1f MB of the ztoc read", ms(r.info.wall), float64(r.info.read)/1e6), r.info.wall <= most)
	line("`sociable ztoc get-file` of 200 KiB by it, the whole process", "≤ 50 ms", "", ms(r.getCommand.wall), r.getCommand.wall <= most)
	line("the same in a process that runs", "≤ 50 ms", "",
		fmt.Sprintf("%s, %.1f MB of the ztoc read", ms(r.get.wall), float64(r.get.read)/1e6), r.get.wall <= most)
	large := float64(r.large.rss) / (1 << 20)
	line("most resident memory of a build of that layer, the whole process", "< 64 MiB", "", fmt.Sprintf("%.0f MiB", large), large < 64)
	const soon = 100 * time.Millisecond
	line("from the last byte of that layer to its ztoc", "≤ 100 ms", "", ms(r.finish), r.finish <= soon)
	return missed
}

func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// section is the heading that the table stands under.
const section = "## zTOC builder"

// replaceSection puts text in place of the section of a Markdown file, or at its
// end.
func replaceSection(path, text string) error {
	p, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, rest, found := strings.Cut(string(p), section+"\n")
	after := ""
	if found {
		if i := strings.Index(rest, "\n## "); i >= 0 {
			after = rest[i:]
		}
	} else if len(before) > 0 {
		before = strings.TrimRight(before, "\n") + "\n\n"
	} else {
		before = "# Benchmarks\n\n"
	}
	return os.WriteFile(path, []byte(before+text+after), 0o644)
}
