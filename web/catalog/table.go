package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Column is what a list of images is sorted by.
type Column string

// The columns, as URLs name them.
const (
	ByReference Column = "reference"
	ByPlatform  Column = "platform"
	BySize      Column = "size"
	ByIndexed   Column = "indexed"
	ByRead      Column = "read"
	BySaved     Column = "saved"
	ByPulls     Column = "pulls"
	ByLastPull  Column = "last_pull"
)

// Columns are all of them.
var Columns = []Column{ByReference, ByPlatform, BySize, ByIndexed, ByRead, BySaved, ByPulls, ByLastPull}

// ParseColumn reads a column's name; "" is ByReference.
func ParseColumn(s string) (Column, error) {
	if s == "" {
		return ByReference, nil
	}
	if !slices.Contains(Columns, Column(s)) {
		return "", fmt.Errorf("there is no column %.50q; there are %s", s, columnNames())
	}
	return Column(s), nil
}

func columnNames() string {
	names := make([]string, len(Columns))
	for i, c := range Columns {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}

// less orders images by a column, and those that are equal in it by reference,
// platform and digest: no two are equal.
func less(c Column) func(a, b *Image) int {
	return func(a, b *Image) int {
		n := 0
		switch c {
		case ByReference:
		case ByPlatform:
			n = cmp.Compare(a.Platform, b.Platform)
		case BySize:
			n = cmp.Compare(a.Size, b.Size)
		case ByIndexed:
			n = cmp.Compare(a.share(int64(a.Indexed), int64(a.Layers)), b.share(int64(b.Indexed), int64(b.Layers)))
		case ByRead:
			n = cmp.Compare(a.share(a.Read, a.Size), b.share(b.Read, b.Size))
		case BySaved:
			n = cmp.Compare(a.Saved, b.Saved)
		case ByPulls:
			n = cmp.Compare(a.Pulls, b.Pulls)
		case ByLastPull:
			n = a.LastPull.Compare(b.LastPull)
		}
		if n != 0 {
			return n
		}
		return cmp.Or(cmp.Compare(a.Reference, b.Reference), cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.Manifest, b.Manifest))
	}
}

func (x *Image) share(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// Totals are sums over all images.
type Totals struct {
	Images  int   `json:"images"`
	Indexed int   `json:"indexed"` // with a SOCI index
	Layers  int   `json:"layers"`  // each as often as images have it
	Bytes   int64 `json:"bytes"`   // likewise
	Saved   int64 `json:"saved"`   // by a lazy start of each
}

// table is all images at one time. It is not changed once made.
type table struct {
	by     map[Column][]*Image // in rising order
	totals Totals
}

func newTable() *table { return &table{by: map[Column][]*Image{}} }

// with is t with the images of change in place of those of the same manifest;
// nil takes one away. All orders stay sorted without being sorted again.
func (t *table) with(change map[digest.Digest]*Image) *table {
	var fresh []*Image
	for _, x := range change {
		if x != nil {
			fresh = append(fresh, x)
		}
	}
	next := &table{by: make(map[Column][]*Image, len(Columns))}
	for _, c := range Columns {
		order := less(c)
		slices.SortFunc(fresh, order)
		next.by[c] = merge(t.by[c], fresh, order, func(x *Image) bool { _, gone := change[x.Manifest]; return gone })
	}
	for _, x := range next.by[ByReference] {
		next.totals.Add(x)
	}
	return next
}

// Add counts x in.
func (t *Totals) Add(x *Image) {
	t.Images++
	if x.Index != "" {
		t.Indexed++
	}
	t.Layers += x.Layers
	t.Bytes += x.Size
	t.Saved += x.Saved
}

// merge puts two sorted lists together, without those of the first that drop
// tells.
func merge(a, b []*Image, order func(a, b *Image) int, drop func(*Image) bool) []*Image {
	out := make([]*Image, 0, len(a)+len(b))
	for _, x := range a {
		if drop(x) {
			continue
		}
		for len(b) > 0 && order(b[0], x) < 0 {
			out, b = append(out, b[0]), b[1:]
		}
		out = append(out, x)
	}
	return append(out, b...)
}

// Query asks for a part of the table.
type Query struct {
	Search string // words that all occur in names, platform or digests, in any case
	Sort   Column
	Down   bool // the largest first
	Offset int
	Limit  int
}

// Page is the answer to a Query.
type Page struct {
	Images  []*Image `json:"images"`
	Matches int      `json:"matches"` // on all pages
	Totals  Totals   `json:"totals"`
	Loading bool     `json:"loading,omitempty"` // not all images have been read since the start
}

func (t *table) page(q Query) Page {
	list := t.by[q.Sort]
	p := Page{Images: []*Image{}, Totals: t.totals}
	words := strings.Fields(strings.ToLower(q.Search))
	take := func(x *Image) {
		if p.Matches >= q.Offset && len(p.Images) < q.Limit {
			p.Images = append(p.Images, x)
		}
		p.Matches++
	}
	if len(words) == 0 {
		p.Matches = len(list)
		from := min(max(0, q.Offset), len(list))
		to := min(from+q.Limit, len(list))
		if q.Down {
			p.Images = append(p.Images, list[len(list)-to:len(list)-from]...)
			slices.Reverse(p.Images)
		} else {
			p.Images = append(p.Images, list[from:to]...)
		}
		return p
	}
	for i := range list {
		x := list[i]
		if q.Down {
			x = list[len(list)-1-i]
		}
		if x.matches(words) {
			take(x)
		}
	}
	return p
}

// matches reports whether all words are in names or digests. Digests are long, and
// few words can be in one.
func (x *Image) matches(words []string) bool {
	for _, w := range words {
		if strings.Contains(x.search, w) {
			continue
		}
		hexed := strings.TrimPrefix(w, "sha256:")
		if strings.Trim(hexed, "0123456789abcdef") != "" || !strings.Contains(string(x.Manifest), hexed) && !strings.Contains(string(x.Index), hexed) {
			return false
		}
	}
	return true
}
