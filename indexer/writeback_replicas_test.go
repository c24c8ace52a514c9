package indexer

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestReplicas: of several that have the same rules each may be the one that replaces
// an index, in whichever order rules come to them; also one with an empty store.
func TestReplicas(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := newOrigin(t)
		up.has(img)
		one, two := replica(t, up, 64<<10, img, a), replica(t, up, 64<<10, img, a)
		wantListed := func(when string, want digest.Digest) {
			t.Helper()
			if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{want}) || len(one.tasks())+len(two.tasks()) > 0 {
				t.Fatalf("%s: listed %v, want %s; tasks %q, %q", when, got, want, one.tasks(), two.tasks())
			}
		}
		wantListed("at first", one.wantIndex(img, a).Digest)
		for i, spans := range []int64{128 << 10, 256 << 10, 64 << 10, 512 << 10, 128 << 10, 64 << 10} {
			first, second := one, two
			if i%2 == 1 {
				first, second = two, one
			}
			want := first.turn(spans, img, a)
			wantListed("turned by one", want)
			second.turn(spans, img, a)
			wantListed("turned by both", want)
		}
		one.stop()
		one = replica(t, up, 64<<10, img, a)
		want := one.turn(128<<10, img, a)
		wantListed("turned by one whose store was lost", want)
	})
}

// TestReplicasWithOtherRules: of several that have not the same rules nobody takes
// away what another one put there, however often they look: it is said, and a person
// decides.
func TestReplicasWithOtherRules(t *testing.T) {
	a := newLayer(t, 1)
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := newOrigin(t)
		up.has(img)
		one, two := replica(t, up, 64<<10, img, a), replica(t, up, 128<<10, img, a)
		theirs := one.wantIndex(img, a).Digest
		wantLeft := func(when string) storage.TaskRow {
			t.Helper()
			task := two.wantKept(img.digest, "the upstream has "+theirs.String(), "delete it there and have this tried again, or push v2 alone")
			if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{theirs}) || len(one.tasks()) > 0 {
				t.Fatalf("%s: listed %v, want %s; tasks %q", when, got, theirs, one.tasks())
			}
			rows := two.published(img.digest)
			if i := slices.IndexFunc(rows, func(r storage.PublishedRow) bool { return r.Instead == theirs }); i < 0 || !rows[i].Alike || rows[i].Made {
				t.Errorf("%s: filed %+v", when, rows)
			}
			return task
		}
		first := wantLeft("at first")
		puts := up.puts
		for range 3 {
			for _, w := range []*world{one, two} {
				w.manifest(redis, img)
				w.x.Wake()
				time.Sleep(24 * time.Hour)
				w.settle()
			}
		}
		if task := wantLeft("looked at again"); up.puts != puts || task.Created != first.Created {
			t.Errorf("%d changes for nothing, %+v", up.puts-puts, task)
		}
		for _, spans := range []int64{256 << 10, 512 << 10} { // both change, to what the other does not know
			theirs = one.turn(spans, img, a)
			two.turn(spans+4096, img, a)
			wantLeft("changed")
		}
		two.retry(two.pushTask(img.digest))
		task := wantLeft("retried")

		up.lists[img.digest] = nil // by a person
		two.retry(task)
		want := two.wantIndex(img, a).Digest
		if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{want}) || len(two.tasks()) > 0 {
			t.Errorf("deleted there, and retried: listed %v, want %s; tasks %q", got, want, two.tasks())
		}
		want = two.turn(1<<20, img, a)
		if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{want}) {
			t.Errorf("then replaced: listed %v, want %s", got, want)
		}
	})
}

// TestReplicasTakeNoTurns: nor do they where each has made, and replaced, what the other
// one wants: the last whose rule changed has its own listed, and that is all.
func TestReplicasTakeNoTurns(t *testing.T) {
	a := newLayer(t, 1)
	for _, keeps := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			img := newImage(t, "img", a)
			up := newOrigin(t)
			up.has(img)
			up.keeps = keeps
			one, two := replica(t, up, 64<<10, img, a), replica(t, up, 64<<10, img, a)
			for _, spans := range []int64{128 << 10, 64 << 10} { // which they have made both, then
				one.turn(spans, img, a)
				two.turn(spans, img, a)
			}
			for i, w := range []*world{two, one, two} {
				want := w.turn([]int64{128 << 10, 128 << 10, 64 << 10}[i], img, a)
				puts := up.puts
				for range 3 {
					for _, w := range []*world{one, two} {
						w.manifest(redis, img)
						w.x.Wake()
						time.Sleep(24 * time.Hour)
						w.settle()
					}
				}
				if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{want}) || up.puts != puts || len(one.tasks())+len(two.tasks()) > 0 {
					t.Errorf("listed %v, want %s; %d changes by themselves; tasks %q, %q", got, want, up.puts-puts, one.tasks(), two.tasks())
				}
			}
		})
	}
}

// TestAlike: what is made as indexes are here is told from what is not.
func TestAlike(t *testing.T) {
	subject := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 7}
	layer := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromString("layer"), Size: 9}
	img := &storage.ImageRow{Manifest: subject, Layers: []storage.ImageLayer{{Descriptor: layer}}}
	body := func(subject, layer v1.Descriptor, noXattrs bool) []byte {
		b, err := EncodeIndexV1(subject, []IndexLayer{{Layer: layer, ZTOC: digest.FromString("ztoc"), ZTOCSize: 5, SpanSize: 1 << 20, NoXattrs: noXattrs}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := v1.Descriptor{MediaType: layer.MediaType, Digest: digest.FromString("other"), Size: 9}
	change := func(f func(*v1.Manifest)) []byte {
		var m v1.Manifest
		if err := json.Unmarshal(body(subject, layer, false), &m); err != nil {
			t.Fatal(err)
		}
		f(&m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tc := range []struct {
		name string
		body []byte
		want bool
	}{
		{"alike", body(subject, layer, false), true},
		{"with the official tool's optimization", body(subject, layer, true), true},
		{"of another image", body(other, layer, false), false},
		{"of another layer", body(subject, other, false), false},
		{"by another tool", change(func(m *v1.Manifest) { m.Annotations[annotationBuildTool] = "AWS SOCI Index Builder" }), false},
		{"with an annotation more", change(func(m *v1.Manifest) { m.Annotations["team"] = "red" }), false},
		{"without span sizes", change(func(m *v1.Manifest) { delete(m.Layers[0].Annotations, annotationSpanSize) }), false},
		{"with something else in it", change(func(m *v1.Manifest) {
			m.Layers = append(m.Layers, v1.Descriptor{MediaType: oci.MediaTypeSOCIPrefetch, Digest: other.Digest, Size: 3})
		}), false},
		{"without a subject", change(func(m *v1.Manifest) { m.Subject = nil }), false},
		{"in another form", []byte(strings.Replace(string(body(subject, layer, false)), "{", "{ ", 1)), false},
		{"no manifest", []byte(strconv.Quote("no")), false},
		{"nothing", nil, false},
	} {
		if got := isAlike(tc.body, img); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}
