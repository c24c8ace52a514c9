package web

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBeginWith: an image begins with the repository that was asked for, and keeps
// the others.
func TestBeginWith(t *testing.T) {
	image := func(names ...IndexName) Index {
		x := Index{Repository: names[0].Repository, Tags: names[0].Tags, Withdrawn: names[0].Withdrawn, NotOffered: names[0].NotOffered}
		x.Also = append(x.Also, names[1:]...)
		return x
	}
	a, b, c := IndexName{"up/a", []string{"1"}, true, false}, IndexName{"up/b", nil, false, true}, IndexName{"up/c", []string{"2", "3"}, false, false}
	for name, want := range map[string]Index{
		"up/a": image(a, b, c), "up/b": image(b, a, c), "up/c": image(c, a, b), "up/d": image(a, b, c), "": image(a, b, c),
	} {
		x := image(a, b, c)
		x.BeginWith(name)
		if diff := cmp.Diff(want, x); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
}
