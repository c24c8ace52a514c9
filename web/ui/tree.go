package ui

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/sociable/sociable/ztoc"
)

// What a layer does to a file.
const (
	fileAdded   = "added"
	fileChanged = "changed" // or only its owner, mode or time: it is in the layer again
	fileRemoved = "removed"
)

// Item is a file or folder of a layer.
type Item struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Type   string `json:"type"`             // as in zTOCs: reg, dir, symlink …
	Size   int64  `json:"size"`             // bytes; of a folder, those of all below it
	Files  int    `json:"files,omitempty"`  // below a folder
	Status string `json:"status,omitempty"` // added, changed or removed; of a folder that was there, changed where something below is
	Link   string `json:"link,omitempty"`   // where a link leads
	First  int    `json:"first_span"`       // -1: it has no bytes
	Last   int    `json:"last_span"`
}

// Dir reports a folder.
func (x *Item) Dir() bool { return x.Type == ztoc.TypeDir }

// Regular reports a file that can be downloaded.
func (x *Item) Regular() bool {
	return x.Status != fileRemoved && (x.Type == ztoc.TypeReg || x.Type == ztoc.TypeHardlink)
}

// Count is a number of files and their bytes.
type Count struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (c *Count) add(bytes int64) { c.Files, c.Bytes = c.Files+1, c.Bytes+bytes }

// Changes are what a layer does to those below it.
type Changes struct {
	Added   Count `json:"added"`
	Changed Count `json:"changed"`
	Removed Count `json:"removed"`
	// Wasted are the bytes of the layers below that this one hides: they are
	// pulled, and nobody sees them.
	Wasted int64 `json:"wasted"`
	// Unknown are layers below of which the files are not known here: what this
	// layer has is compared with the others.
	Unknown int `json:"unknown_below,omitempty"`
}

// tree is the files of a layer. It is not changed once made.
type tree struct {
	Changes
	kids map[string][]*Item // of a folder, by its path; "" is the root; folders first
	all  []*Item            // by path
}

// low is a file of the layers below.
type low struct {
	size int64
	dir  bool
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// clean is an entry's path as people write it, "" for the root.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// layerFiles is what one layer's archive says.
type layerFiles struct {
	items  []*Item         // files and folders, as they come
	gone   map[string]bool // paths that are removed
	opaque map[string]bool // folders of which everything below is
}

func readFiles(entries func(func(ztoc.Entry, error) bool), spanOf func(off int64) (int, error)) (*layerFiles, error) {
	f := &layerFiles{gone: map[string]bool{}, opaque: map[string]bool{}}
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		p := clean(e.Name)
		dir, base := path.Split(p)
		dir = strings.TrimSuffix(dir, "/")
		switch {
		case p == "":
			continue
		case base == opaque:
			f.opaque[dir] = true
			continue
		case strings.HasPrefix(base, whiteout):
			f.gone[path.Join(dir, strings.TrimPrefix(base, whiteout))] = true
			continue
		}
		x := &Item{Name: base, Path: p, Type: e.Type, Link: e.Linkname, First: -1, Last: -1}
		if e.Type == ztoc.TypeReg {
			x.Size = e.Size
		}
		if x.Size > 0 && spanOf != nil {
			if x.First, err = spanOf(e.Offset); err != nil {
				return nil, err
			}
			if x.Last, err = spanOf(e.Offset + e.Size - 1); err != nil {
				return nil, err
			}
		}
		f.items = append(f.items, x)
	}
	return f, nil
}

// hides tells whether f removes p, which a layer below has: by itself, or with a
// folder that it is in.
func (f *layerFiles) hides(p string) bool {
	if len(f.gone)+len(f.opaque) == 0 {
		return false
	}
	if f.gone[p] {
		return true
	}
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if dir == "." {
			return f.opaque[""]
		}
		if f.gone[dir] || f.opaque[dir] {
			return true
		}
	}
}

// over puts f over the files below.
func (f *layerFiles) over(below map[string]low) {
	if len(f.gone)+len(f.opaque) > 0 {
		for p := range below {
			if f.hides(p) {
				delete(below, p)
			}
		}
	}
	for _, x := range f.items {
		below[x.Path] = low{x.Size, x.Dir()}
		for dir := path.Dir(x.Path); dir != "." && !mapHas(below, dir); dir = path.Dir(dir) {
			below[dir] = low{dir: true} // a folder without an entry of its own
		}
	}
}

// newTree makes the tree of f over the files below it.
func newTree(f *layerFiles, below map[string]low, unknown int) *tree {
	t := &tree{kids: map[string][]*Item{}, Changes: Changes{Unknown: unknown}}
	by := make(map[string]*Item, len(f.items))
	for _, x := range f.items {
		by[x.Path] = x // a later entry of the same name is what counts
	}
	for p, was := range below {
		if by[p] == nil && f.hides(p) {
			x := &Item{Name: path.Base(p), Path: p, Type: ztoc.TypeReg, Size: was.size, Status: fileRemoved, First: -1, Last: -1}
			if was.dir {
				x.Type, x.Size = ztoc.TypeDir, 0
			} else {
				t.Removed.add(was.size)
				t.Wasted += was.size
			}
			by[p] = x
		}
	}
	for p, x := range by {
		if x.Status == "" {
			t.judge(x, below[p], mapHas(below, p))
		}
	}
	t.fill(by, below)
	return t
}

func mapHas(m map[string]low, p string) bool { _, ok := m[p]; return ok }

// judge says what the layer does to x.
func (t *tree) judge(x *Item, was low, there bool) {
	switch {
	case x.Dir() && !there:
		x.Status = fileAdded
	case x.Dir(): // fill finds out
	case there:
		x.Status = fileChanged
		t.Changed.add(x.Size)
		t.Wasted += was.size
	default:
		x.Status = fileAdded
		t.Added.add(x.Size)
	}
}

// fill links the items to their folders, makes those that have no entry of their
// own, and sums up.
func (t *tree) fill(by map[string]*Item, below map[string]low) {
	for p := range by {
		for dir := path.Dir(p); dir != "." && by[dir] == nil; dir = path.Dir(dir) {
			x := &Item{Name: path.Base(dir), Path: dir, Type: ztoc.TypeDir, First: -1, Last: -1}
			if !mapHas(below, dir) {
				x.Status = fileAdded
			}
			by[dir] = x
		}
	}
	t.all = make([]*Item, 0, len(by))
	for _, x := range by {
		t.all = append(t.all, x)
		if x.Dir() {
			continue
		}
		for dir := path.Dir(x.Path); dir != "."; dir = path.Dir(dir) {
			d := by[dir]
			d.Files++
			d.Size += x.Size
			if d.Status == "" {
				d.Status = fileChanged
			}
		}
	}
	slices.SortFunc(t.all, func(a, b *Item) int { return cmp.Compare(a.Path, b.Path) })
	for _, x := range t.all {
		dir := path.Dir(x.Path)
		if dir == "." {
			dir = ""
		}
		t.kids[dir] = append(t.kids[dir], x)
	}
	for _, list := range t.kids {
		slices.SortStableFunc(list, func(a, b *Item) int {
			switch {
			case a.Dir() == b.Dir():
				return 0
			case a.Dir():
				return -1
			}
			return 1
		})
	}
}

// search finds up to n files whose path has all words, and how many there are.
func (t *tree) search(words string, n int) (found []*Item, matches int) {
	want := strings.Fields(strings.ToLower(words))
	for _, x := range t.all {
		p := strings.ToLower(x.Path)
		if slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(p, w) }) {
			continue
		}
		if matches++; len(found) < n {
			found = append(found, x)
		}
	}
	return found, matches
}

// folder reports whether path is one that the layer has.
func (t *tree) folder(path string) bool {
	return slices.ContainsFunc(t.all, func(x *Item) bool { return x.Dir() && x.Path == path })
}
