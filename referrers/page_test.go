package referrers

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// FuzzPages: whatever fits on a page at all is on exactly one, in order, and no
// page is over the limit.
func FuzzPages(f *testing.F) {
	f.Add(uint16(400), []byte{0, 1, 2, 255, 3}, true)
	f.Add(uint16(300), []byte{200, 0}, true)
	f.Add(uint16(0), []byte{}, false)
	f.Fuzz(func(t *testing.T, limit uint16, sizes []byte, soci bool) {
		empty, err := encode([]v1.Descriptor{})
		if err != nil {
			t.Fatal(err)
		}
		limit = max(limit, uint16(len(empty)))
		var l listing
		want := []v1.Descriptor{}
		fits := func(d v1.Descriptor) bool {
			b, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			return len(b)+1 <= int(limit)-len(empty)
		}
		if soci {
			d := entry(1<<16, oci.MediaTypeSOCIIndexV1)
			l.soci = &d
			if fits(d) {
				want = append(want, d)
			}
		}
		for i, n := range sizes {
			d := entry(i, strings.Repeat("t", int(n)))
			l.rest = append(l.rest, d)
			if fits(d) {
				want = append(want, d)
			}
		}
		got := []v1.Descriptor{}
		for cursor, pages := "", 0; ; pages++ {
			if pages > len(sizes)+2 {
				t.Fatal("the pages do not end")
			}
			p, err := paginate(l, cursor, int(limit), math.MaxInt)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.body) > int(limit) {
				t.Errorf("page of %d bytes, limit %d", len(p.body), limit)
			}
			var idx v1.Index
			if err := json.Unmarshal(p.body, &idx); err != nil {
				t.Fatal(err)
			}
			got = append(got, idx.Manifests...)
			if cursor = p.next; cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	})
}
