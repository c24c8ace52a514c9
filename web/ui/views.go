package ui

import (
	"html/template"
	"strconv"

	"github.com/sociable/sociable/web/catalog"
	"github.com/sociable/sociable/web/series"
	"github.com/sociable/sociable/web/trouble"
)

// What follows is how templates see values that the API shows as they are.

// AllRanges are what the charts can be about.
func (o *Overview) AllRanges() []series.Range { return series.Ranges }

// Percent is how much of the limit is used, 0 to 100.
func (s Stored) Percent() float64 { return min(100, 100*s.Used) }

// Left is what is left of a limit, in words.
func (h Health) Left() string {
	s := thousands(strconv.FormatInt(*h.Remaining, 10))
	if h.Limit != nil {
		s += " of " + thousands(strconv.FormatInt(*h.Limit, 10))
	}
	return s
}

const shownTroubles = 12

// Short are the newest troubles.
func (f Failures) Short() []trouble.Entry { return f.Troubles[:min(len(f.Troubles), shownTroubles)] }

// Header is one column's head in the list of images.
type Header struct {
	Title, Sorted string
	Num           bool
	Query         template.URL // that sorts by it
}

var columnTitles = []struct {
	column catalog.Column
	title  string
	num    bool
}{
	{catalog.ByReference, "image", false}, {catalog.ByPlatform, "platform", false}, {catalog.BySize, "size", true},
	{catalog.ByIndexed, "indexed", true}, {catalog.ByRead, "read lazily", true}, {catalog.BySaved, "saved by a start", true},
	{catalog.ByPulls, "pulls", true}, {catalog.ByLastPull, "last pull", true},
}

// Headers are those of all columns.
func (x *Images) Headers() (list []Header, err error) {
	for _, c := range columnTitles {
		h, order := Header{Title: c.title, Num: c.num}, "asc"
		if c.num {
			order = "desc" // the largest is what one looks for
		}
		if c.column == x.Sort {
			h.Sorted, order = "ascending", "desc"
			if x.Order == "desc" {
				h.Sorted, order = "descending", "asc"
			}
		}
		if h.Query, err = query("q", x.Search, "sort", c.column, "order", order); err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}

// HasNext reports whether there is a page behind this one.
func (x *Images) HasNext() bool { return x.Offset+len(x.Images) < x.Matches }

// PageQuery is the query of a page before or behind this one.
func (x *Images) PageQuery(by int) (template.URL, error) {
	return query("q", x.Search, "sort", x.Sort, "order", x.Order, "offset", max(0, x.Offset+by*x.Limit))
}

// Beyond reports a page behind the last one, such as a bookmark from before a purge.
func (x *Images) Beyond() bool {
	return len(x.Images) == 0 && x.Offset > 0 && x.Matches > 0 && x.Limit > 0
}

// LastQuery is the query of the last page.
func (x *Images) LastQuery() (template.URL, error) {
	return query("q", x.Search, "sort", x.Sort, "order", x.Order, "offset", (x.Matches-1)/x.Limit*x.Limit)
}

// StackPart is a layer in the bar of all layers.
type StackPart struct {
	Layer    Layer
	Number   int
	X, Width string // of 1000
}

// Stack are the layers in a row, as wide as they are large, but none so narrow
// that it can't be seen.
func (x *Image) Stack() (parts []StackPart) {
	const width, least, gap = 1000.0, 4.0, 2.0
	n := float64(len(x.List))
	room := max(0, width-n*(least+gap))
	at := 0.0
	for i, l := range x.List {
		w := least
		if x.Size > 0 {
			w += room * float64(l.Size) / float64(x.Size)
		}
		parts = append(parts, StackPart{l, i + 1, strconv.FormatFloat(at, 'f', 1, 64), strconv.FormatFloat(w, 'f', 1, 64)})
		at += w + gap
	}
	return parts
}

// Layer is the one whose files they are.
func (f *Files) Layer() *LayerView { return f.layer }

// HasNext reports whether there is a page behind this one.
func (c *Checkpoints) HasNext() bool { return c.Offset+len(c.Checkpoints) < c.Total }

// Next is the offset of the page behind this one, Prev of that before it.
func (c *Checkpoints) Next() int { return c.Offset + c.Limit }

// Prev is the offset of the page before this one.
func (c *Checkpoints) Prev() int { return max(0, c.Offset-c.Limit) }
