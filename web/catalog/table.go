package catalog

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

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

// Totals are sums over all images.
type Totals struct {
	Images  int   `json:"images"`
	Indexed int   `json:"indexed"` // with a SOCI index
	Layers  int   `json:"layers"`  // each as often as images have it
	Bytes   int64 `json:"bytes"`   // likewise
	Saved   int64 `json:"saved"`   // by a lazy start of each
}

// table is all images. It is safe for concurrent use.
type table struct {
	mu     sync.RWMutex
	texts  arena
	rows   []row
	free   []uint32       // of these
	by     map[key]uint32 // their places in rows, by manifest
	order  map[Column][]uint32
	totals Totals
}

func newTable() *table { return &table{by: map[key]uint32{}, order: map[Column][]uint32{}} }

func (t *table) images() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.by)
}

// apply puts the images of change in place of those of the same manifest; nil
// takes one away. All orders stay sorted without being sorted again.
func (t *table) apply(change map[digest.Digest]*Image) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave(change)
	var fresh []uint32
	var scratch []byte
	for d, x := range change {
		k := keyOf(d)
		at, had := t.by[k]
		if x == nil {
			if had {
				t.texts.drop(t.rows[at].place)
				t.rows[at].live = false
				delete(t.by, k)
				t.free = append(t.free, at)
			}
			continue
		}
		if !had {
			at = t.slot()
			t.by[k] = at
		}
		scratch = t.rows[at].set(&t.texts, x, scratch)
		t.totals.add(&t.rows[at], 1)
		fresh = append(fresh, at)
	}
	for _, c := range Columns {
		slices.SortFunc(fresh, func(a, b uint32) int { return t.texts.compare(c, &t.rows[a], &t.rows[b]) })
		t.order[c] = t.merge(c, t.order[c], fresh)
	}
	if t.texts.wasted() {
		t.compact()
	}
}

// leave takes the rows of change out of all orders and sums.
func (t *table) leave(change map[digest.Digest]*Image) {
	gone := make([]bool, len(t.rows))
	n := 0
	for d := range change {
		if at, ok := t.by[keyOf(d)]; ok {
			t.totals.add(&t.rows[at], -1)
			gone[at] = true
			n++
		}
	}
	if n == 0 {
		return
	}
	for _, c := range Columns {
		t.order[c] = slices.DeleteFunc(t.order[c], func(at uint32) bool { return gone[at] })
	}
}

// slot gives a place for a row.
func (t *table) slot() uint32 {
	if n := len(t.free); n > 0 {
		at := t.free[n-1]
		t.free = t.free[:n-1]
		return at
	}
	t.rows = append(t.rows, row{})
	return uint32(len(t.rows) - 1)
}

// merge puts fresh rows, which are sorted, to where they belong in list, from its
// end on.
func (t *table) merge(c Column, list, fresh []uint32) []uint32 {
	n := len(list)
	list = slices.Grow(list, len(fresh))[:n+len(fresh)]
	for k := len(fresh); k > 0; k-- {
		x := &t.rows[fresh[k-1]]
		at := sort.Search(n, func(i int) bool { return t.texts.compare(c, &t.rows[list[i]], x) > 0 })
		copy(list[at+k:], list[at:n])
		list[at+k-1] = fresh[k-1]
		n = at
	}
	return list
}

// compact makes the texts anew, without what nobody has any more.
func (t *table) compact() {
	var fresh arena
	for i := range t.rows {
		if r := &t.rows[i]; r.live {
			r.place = fresh.put(t.texts.text(r.place))
		}
	}
	t.texts = fresh
}

// add counts r in, or with -1 out.
func (t *Totals) add(r *row, by int) {
	t.Images += by
	if int(r.ends[endManifest]) < int(r.place.size) {
		t.Indexed += by
	}
	t.Layers += by * int(r.layers)
	t.Bytes += int64(by) * r.size
	t.Saved += int64(by) * r.saved
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

// Query asks for a part of the table.
type Query struct {
	Search string // words that all occur in names, platform or (of six letters and more) digests, in any case
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
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := t.order[q.Sort]
	p := Page{Images: []*Image{}, Totals: t.totals, Matches: len(list)}
	var search []word
	for _, w := range strings.Fields(strings.ToLower(q.Search)) {
		search = append(search, wordOf(w))
	}
	var found []bool // by row: texts lie as rows do, and are fast to go through
	if len(search) > 0 {
		found, p.Matches = t.find(search)
	}
	i, skip := 0, max(0, q.Offset)
	if found == nil { // all match
		i, skip = min(skip, len(list)), 0
	}
	for ; i < len(list) && len(p.Images) < q.Limit; i++ {
		at := list[i]
		if q.Down {
			at = list[len(list)-1-i]
		}
		switch {
		case found != nil && !found[at]:
		case skip > 0:
			skip--
		default:
			p.Images = append(p.Images, t.rows[at].image(&t.texts))
		}
	}
	return p
}

// find tells which rows all words are in, and how many. The texts are gone through
// as they lie.
func (t *table) find(words []word) (found []bool, n int) {
	found = make([]bool, len(t.rows))
	for i := range t.rows {
		if r := &t.rows[i]; r.live && r.matches(&t.texts, words) {
			found[i] = true
			n++
		}
	}
	return found, n
}
