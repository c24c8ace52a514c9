package ui

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The size of a chart's drawing; the page scales it.
const (
	chartWidth  = 360
	chartHeight = 96
)

// SVG draws a chart: its lines, the first with the area below it. What it shows is
// said in words beside it.
func (c Chart) SVG() template.HTML {
	top := c.top()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`,
		chartWidth, chartHeight, template.HTMLEscapeString(c.Says()))
	for i := 1; i < 4; i++ {
		fmt.Fprintf(&b, `<path class="grid" d="M0 %dH%d"/>`, i*chartHeight/4, chartWidth)
	}
	for i, l := range c.Lines {
		line, area := trace(l.Points, top)
		if i == 0 && area != "" {
			fmt.Fprintf(&b, `<path class="area" d="%s"/>`, area)
		}
		if line != "" {
			fmt.Fprintf(&b, `<path class="line l%d" d="%s"/>`, i, line)
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, and text that is escaped
}

// trace makes the paths of a line and of the area below it, with a gap where
// nothing was measured.
func trace(points []*float64, top float64) (line, area string) {
	var l, a strings.Builder
	step := float64(chartWidth) / float64(len(points)-1)
	y := func(v float64) string {
		return strconv.FormatFloat(chartHeight-1-v/top*(chartHeight-8), 'f', 1, 64)
	}
	from := -1
	for i := 0; i <= len(points); i++ {
		if i < len(points) && points[i] != nil {
			x := strconv.FormatFloat(float64(i)*step, 'f', 1, 64)
			if from < 0 {
				from = i
				fmt.Fprintf(&l, "M%s %s", x, y(*points[i]))
				fmt.Fprintf(&a, "M%s %dL%s %s", x, chartHeight, x, y(*points[i]))
			} else {
				fmt.Fprintf(&l, "L%s %s", x, y(*points[i]))
				fmt.Fprintf(&a, "L%s %s", x, y(*points[i]))
			}
			continue
		}
		if from >= 0 {
			fmt.Fprintf(&a, "L%s %dZ", strconv.FormatFloat(float64(i-1)*step, 'f', 1, 64), chartHeight)
			if from == i-1 { // one point alone
				l.WriteString("h.5")
			}
			from = -1
		}
	}
	return l.String(), a.String()
}

func (c Chart) top() float64 {
	if c.Unit == "ratio" {
		return 1
	}
	top := 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if p != nil {
				top = max(top, *p)
			}
		}
	}
	if top <= 0 {
		return 1
	}
	return top
}

// Top is the highest value, in words.
func (c Chart) Top() string { return inUnit(c.top(), c.Unit) }

// Says are the lines' last and highest values in words.
func (c Chart) Says() string {
	parts := []string{c.Title}
	for _, l := range c.Lines {
		last, high := math.NaN(), math.NaN()
		for _, p := range l.Points {
			if p != nil {
				last = *p
				if !(high >= last) { // also from NaN
					high = last
				}
			}
		}
		if math.IsNaN(last) {
			parts = append(parts, l.Name+": nothing measured")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: now %s, at most %s", l.Name, inUnit(last, c.Unit), inUnit(high, c.Unit)))
	}
	return strings.Join(parts, "; ")
}

// Now is a line's last value in words.
func (c Chart) Now(i int) string {
	p := c.Lines[i].Points
	for k := len(p) - 1; k >= max(0, len(p)-3); k-- {
		if p[k] != nil {
			return inUnit(*p[k], c.Unit)
		}
	}
	return "–"
}

func inUnit(v float64, unit string) string {
	switch unit {
	case "bytes":
		return size(int64(v))
	case "bytes/s":
		return size(int64(v)) + "/s"
	case "requests/s":
		if v > 0 && v < 10 {
			return strconv.FormatFloat(v, 'f', 2, 64) + "/s"
		}
		return strconv.FormatFloat(v, 'f', 0, 64) + "/s"
	case "ratio":
		return percent(v)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func percent(v float64) string {
	switch {
	case v > 0 && v < 0.1:
		return strconv.FormatFloat(v*100, 'f', 1, 64) + " %"
	case v > 0.995 && v < 1:
		return "99 %"
	}
	return strconv.FormatFloat(v*100, 'f', 0, 64) + " %"
}

func size(n int64) string {
	if n < 0 {
		return "–"
	}
	return humanize.IBytes(uint64(n))
}

// The heat map: a cell for each span, or for some neighbours where there are many.
const (
	mostCells = 320
	rowCells  = 40
	cell      = 16 // and a gap of two
)

// HeatSVG draws which spans were read, by colour and by the height of a bar, and
// which are here, by a dot.
func (v *LayerView) HeatSVG() template.HTML {
	per := (len(v.Heat) + mostCells - 1) / mostCells
	if per == 0 {
		return ""
	}
	n := (len(v.Heat) + per - 1) / per
	rows := (n + rowCells - 1) / rowCells
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="heat" viewBox="0 0 %d %d" width="%d" role="img" aria-label="%s">`,
		min(n, rowCells)*(cell+2), rows*(cell+2), min(n, rowCells)*(cell+2)*5/4, template.HTMLEscapeString(v.HeatSays()))
	for i := range n {
		group := v.Heat[i*per : min((i+1)*per, len(v.Heat))]
		x, y := i%rowCells*(cell+2), i/rowCells*(cell+2)
		level, cached, says := heatOf(group)
		fmt.Fprintf(&b, `<g><title>%s</title><rect class="c" x="%d" y="%d" width="%d" height="%d"/>`, says, x, y, cell, cell)
		if level > 0 {
			h := cell * level / 4
			fmt.Fprintf(&b, `<rect class="h%d" x="%d" y="%d" width="%d" height="%d"/>`, level, x, y+cell-h, cell, h)
		}
		if cached {
			fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="2"/>`, x+cell-4, y+4)
		}
		b.WriteString(`</g>`)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, and text that is escaped
}

// HeatSays is the heat map in a sentence.
func (v *LayerView) HeatSays() string {
	were := "were"
	if v.ReadSpans() == 1 {
		were = "was"
	}
	return fmt.Sprintf("%d of %s %s read by ranges, %s of %s; %s are cached here",
		v.ReadSpans(), many(len(v.Heat), "span"), were, size(v.Read), size(v.Size), size(v.Cached))
}

// heatOf sums up neighbouring spans: level is 0 to 4, by the order of magnitude.
func heatOf(group []Span) (level int, cached bool, says string) {
	var reads uint32
	here := 0
	for _, s := range group {
		reads = max(reads, s.Reads)
		if s.Cached {
			here++
		}
	}
	switch {
	case reads >= 100:
		level = 4
	case reads >= 10:
		level = 3
	case reads >= 2:
		level = 2
	case reads == 1:
		level = 1
	}
	first, last := group[0], group[len(group)-1]
	says = fmt.Sprintf("span %d", first.Number)
	if len(group) > 1 {
		says = fmt.Sprintf("spans %d–%d", first.Number, last.Number)
	}
	says += fmt.Sprintf(", read %d×", reads)
	if here > 0 {
		says += ", cached"
	}
	return level, here == len(group), says
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return humanize.RelTime(t, now, "ago", "from now")
}
