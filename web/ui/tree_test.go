package ui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/ztoc"
)

func filesIn(t *testing.T, names ...string) *layerFiles {
	t.Helper()
	f, err := readFiles(func(yield func(ztoc.Entry, error) bool) {
		for _, n := range names {
			name, size, _ := strings.Cut(n, "=")
			e := ztoc.Entry{Name: name, Type: ztoc.TypeReg, Size: int64(len(size))}
			if strings.HasSuffix(name, "/") {
				e.Type = ztoc.TypeDir
			}
			if !yield(e, nil) {
				return
			}
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTree compares a layer with those below it. A file's size is the number of
// letters behind its =.
func TestTree(t *testing.T) {
	for _, c := range []struct {
		name   string
		below  [][]string
		layer  []string
		want   string // path, status and size of each, by path
		counts Changes
	}{
		{"alone", nil, []string{"./a=xx", "d/", "d/b=x"}, "a added 2, d added 1, d/b added 1", Changes{Added: Count{2, 3}}},
		{"changed and added", [][]string{{"a=xxx", "d/"}}, []string{"a=x", "d/b=x"}, "a changed 1, d changed 1, d/b added 1",
			Changes{Added: Count{1, 1}, Changed: Count{1, 1}, Wasted: 3}},
		{"removed", [][]string{{"d/", "d/a=xx", "d/b=x", "e=x"}}, []string{"d/.wh.a", ".wh.none"}, "d changed 2, d/a removed 2",
			Changes{Removed: Count{1, 2}, Wasted: 2}},
		{"a folder removed", [][]string{{"d/", "d/e/", "d/e/a=xx"}}, []string{".wh.d"}, "d removed 2, d/e removed 2, d/e/a removed 2",
			Changes{Removed: Count{1, 2}, Wasted: 2}},
		{"opaque", [][]string{{"d/", "d/a=xx", "d/b=x"}}, []string{"d/", "d/.wh..wh..opq", "d/b=xxx"}, "d changed 5, d/a removed 2, d/b changed 3",
			Changes{Changed: Count{1, 3}, Removed: Count{1, 2}, Wasted: 3}},
		{"removed below already", [][]string{{"a=xx"}, {".wh.a"}}, []string{"a=x"}, "a added 1", Changes{Added: Count{1, 1}}},
		{"folders without entries", [][]string{{"d/e/a=x"}}, []string{"d/e/b=x", "n/m/c=x"}, "d changed 1, d/e changed 1, d/e/b added 1, n added 1, n/m added 1, n/m/c added 1",
			Changes{Added: Count{2, 2}}},
		{"odd names", nil, []string{"../../x=x", "/abs=x", "./"}, "abs added 1, x added 1", Changes{Added: Count{2, 2}}},
		{"twice in one layer", nil, []string{"a=x", "a=xx"}, "a added 2", Changes{Added: Count{1, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := map[string]low{}
			for _, names := range c.below {
				filesIn(t, names...).over(below)
			}
			tree := newTree(filesIn(t, c.layer...), below, 0)
			var got []string
			for _, x := range tree.all {
				got = append(got, fmt.Sprintf("%s %s %d", x.Path, x.Status, x.Size))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.counts, tree.Changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			listed := 0
			for _, list := range tree.kids {
				listed += len(list)
			}
			if listed != len(tree.all) {
				t.Errorf("%d of %d files are in a folder", listed, len(tree.all))
			}
		})
	}
	found, n := newTree(filesIn(t, "usr/bin/Env=x", "usr/lib=x"), nil, 0).search("USR env", 10)
	if n != 1 || found[0].Path != "usr/bin/Env" {
		t.Errorf("found %d, %v", n, found)
	}
}

func TestCharts(t *testing.T) {
	v := func(x float64) *float64 { return &x }
	c := Chart{Title: "Bytes", Unit: "bytes/s", Lines: []Line{{"sent", []*float64{nil, v(0), v(2048), nil, v(1024), nil}}, {"none", make([]*float64, 6)}}}
	svg := string(c.SVG())
	for _, want := range []string{`aria-label="Bytes; sent: now 1.0 KiB/s, at most 2.0 KiB/s; none: nothing measured"`, `class="line l0" d="M72.0 95.0L144.0 7.0M288.0 51.0h.5"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("has no %s:\n%s", want, svg)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "l1") {
		t.Errorf("draws what was not measured: %s", svg)
	}
}
