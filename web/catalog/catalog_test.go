package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
)

var redis = oci.Repo{Upstream: "docker.io", Name: "library/redis"}

func dig(s string) digest.Digest { return digest.FromString(s) }

func watched(t testing.TB) *Watch {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return NewWatch(db)
}

func update(t testing.TB, w *Watch, fn func(storage.Tx) error) {
	t.Helper()
	if err := w.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// image has one layer of l, and one that a rule left out.
func image(name string, l *storagetest.Layer) storage.ImageRow {
	return storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: dig(name)}, Repos: []oci.Repo{redis}, Platform: "linux/amd64",
		Layers: []storage.ImageLayer{
			{Descriptor: v1.Descriptor{Digest: l.Digest(), Size: l.Row.Size}, SpanSize: l.Row.SpanSize},
			{Descriptor: v1.Descriptor{Digest: dig("small"), Size: 1000}, Skip: "too-small"},
		},
	}
}

// TestOf: what the table has of an image is what the rows say.
func TestOf(t *testing.T) {
	w, l := watched(t), storagetest.NewLayer(t, "x", 200_000, 16<<10)
	row := image("m", l)
	size := l.Row.Size + 1000
	look := func(what string, want *Image) {
		t.Helper()
		err := w.View(t.Context(), func(tx storage.Tx) error {
			got, ok, err := Of(tx, row.Manifest.Digest)
			if !ok && want == nil {
				return err
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look("nothing", nil)
	update(t, w, func(tx storage.Tx) error { return tx.PutImage(row) })
	want := &Image{
		Reference: redis.String() + "@" + dig("m").String(), Repository: redis.String(), Manifest: dig("m"), Platform: "linux/amd64",
		Size: size, Layers: 2, Wanted: 1,
	}
	look("a layer is wanted", want)

	table, err := l.Table.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	row.Index = dig("index")
	update(t, w, func(tx storage.Tx) error {
		list := storage.ManifestRow{Digest: dig("list"), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{{Digest: dig("m")}}}}
		for _, err := range []error{
			tx.PutImage(row), tx.PutLayer(l.Row), tx.PutSpans(l.Digest(), l.Row.SpanSize, table), tx.PutManifest(list),
			tx.PutTag(storage.TagRow{Repo: redis, Tag: "latest", Digest: dig("list")}),
			tx.PutTag(storage.TagRow{Repo: redis, Tag: "7.2", Digest: dig("m")}),
			tx.PutTag(storage.TagRow{Repo: redis, Tag: "7.2.4", Digest: dig("list")}),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	want.Reference, want.Tags = redis.String()+":7.2.4", []string{"7.2.4", "7.2", "latest"}
	want.Index, want.Indexed, want.Wanted = dig("index"), 1, 0
	want.Benefit = Benefit{Saved: int64(float64(l.Row.Size) * (1 - typicalRead))}
	look("indexed, estimated", want)

	heat := storage.HeatRow{Digest: l.Digest(), SpanSize: l.Row.SpanSize, Spans: make([]storage.SpanHeat, l.Table.Len())}
	heat.Spans[1] = storage.SpanHeat{Reads: 3, Last: time.Unix(1_700_000_000, 0).UTC()}
	at := time.Unix(1_700_000_001, 0).UTC()
	update(t, w, func(tx storage.Tx) error {
		if err := tx.PutPulls(storage.PullRow{Manifest: dig("m"), Pulls: 5, Last: at}); err != nil {
			return err
		}
		return tx.PutHeat(heat)
	})
	s := l.Table.Span(1)
	want.Benefit = Benefit{Read: 1000 + s.End - s.Off, Saved: l.Row.Size - (s.End - s.Off), Measured: true}
	want.Pulls, want.LastPull = 5, at
	look("read lazily, measured", want)
}

// TestFollows: whatever is written, the table is soon as if it were read anew.
func TestFollows(t *testing.T) {
	w, l := watched(t), storagetest.NewLayer(t, "x", 50_000, 16<<10)
	rnd := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprint("m", rnd.IntN(30)) }
	some := func(tx storage.Tx) error {
		i := rnd.IntN(9)
		switch n, tag := name(), fmt.Sprint(i); rnd.IntN(10) {
		case 0:
			return tx.DeleteImage(dig(n))
		case 1:
			return tx.PutTag(storage.TagRow{Repo: redis, Tag: tag, Digest: dig(n)})
		case 2:
			return tx.DeleteTag(redis, tag)
		case 3:
			return tx.PutPulls(storage.PullRow{Manifest: dig(n), Pulls: rnd.Int64N(100), Last: time.Unix(rnd.Int64N(1e9), 0)})
		case 4:
			row := l.Row
			row.State = []storage.LayerState{storage.LayerIndexed, storage.LayerWanted, storage.LayerSkipped}[rnd.IntN(3)]
			return tx.PutLayer(row)
		case 5:
			return tx.PutManifest(storage.ManifestRow{
				Digest: dig("list" + tag), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{
					{Digest: dig(fmt.Sprint("m", 3*i))}, {Digest: dig(fmt.Sprint("m", 3*i+1))},
				}},
			})
		case 6:
			return tx.PutTag(storage.TagRow{Repo: redis, Tag: "list-" + tag, Digest: dig("list" + tag)})
		case 7:
			return tx.DeleteManifest(dig("list" + tag))
		default:
			row := image(n, l)
			row.Platform = []string{"linux/amd64", "linux/arm64"}[rnd.IntN(2)]
			return tx.PutImage(row)
		}
	}
	ctx, c := t.Context(), New(w, nil, nil)
	for range 100 {
		update(t, w, some)
	}
	if err := c.load(ctx); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		for range 10 {
			update(t, w, some)
		}
		if err := c.follow(ctx, w.take()); err != nil {
			t.Fatal(err)
		}
		anew := New(w, nil, nil)
		if err := anew.load(ctx); err != nil {
			t.Fatal(err)
		}
		for _, column := range Columns {
			q := Query{Sort: column, Limit: 100}
			if diff := cmp.Diff(anew.Page(q), c.Page(q)); diff != "" {
				t.Fatalf("by %s (-read anew +followed):\n%s", column, diff)
			}
		}
	}
}

// TestRun: what is written while it runs is in the table soon, and Run ends with
// its context.
func TestRun(t *testing.T) {
	w, l := watched(t), storagetest.NewLayer(t, "x", 50_000, 16<<10)
	c := New(w, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	update(t, w, func(tx storage.Tx) error { return tx.PutImage(image("m", l)) })
	deadline := time.After(time.Minute)
	for c.Page(Query{Limit: 1}).Matches == 0 {
		select {
		case <-deadline:
			t.Fatal("the image is not in the table")
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPage(t *testing.T) {
	change := map[digest.Digest]*Image{}
	for i := range 10 {
		x := &Image{Repository: fmt.Sprintf("docker.io/library/app%d", i), Tags: []string{"1", "A"}, Platform: "linux/amd64", Manifest: dig(fmt.Sprint(i)), Size: int64(i%5) * 100, Layers: 1}
		change[x.Manifest] = x
	}
	table := newTable()
	table.apply(change)
	for _, c := range []struct {
		name    string
		q       Query
		matches int
		want    string
	}{
		{"the first", Query{Sort: ByReference, Limit: 3}, 10, "0 1 2"},
		{"the last", Query{Sort: ByReference, Limit: 3, Offset: 9}, 10, "9"},
		{"beyond", Query{Sort: ByReference, Limit: 3, Offset: 99}, 10, ""},
		{"down", Query{Sort: ByReference, Limit: 3, Down: true}, 10, "9 8 7"},
		{"by size, then by name", Query{Sort: BySize, Limit: 4}, 10, "0 5 1 6"},
		{"by size, down", Query{Sort: BySize, Limit: 3, Down: true, Offset: 1}, 10, "4 8 3"},
		{"searched", Query{Sort: ByReference, Limit: 10, Search: "APP7 amd64"}, 1, "7"},
		{"searched by tag, in any case", Query{Sort: ByReference, Limit: 10, Search: "app3:1 :a"}, 1, "3"},
		{"few letters are no digest", Query{Sort: ByReference, Limit: 10, Search: string(dig("4"))[7:12]}, 0, ""},
		{"searched by a digest's beginning", Query{Sort: ByReference, Limit: 10, Search: string(dig("4"))[:19]}, 1, "4"},
		{"searched by digest", Query{Sort: ByReference, Limit: 10, Search: string(dig("4"))}, 1, "4"},
		{"searched, a page of it", Query{Sort: ByReference, Limit: 2, Offset: 1, Search: "library", Down: true}, 10, "8 7"},
		{"searched in vain", Query{Sort: ByReference, Limit: 2, Search: "app7 arm64"}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, got := table.page(c.q), ""
			for i, x := range p.Images {
				if i > 0 {
					got += " "
				}
				got += x.Reference[len("docker.io/library/app") : len(x.Reference)-2]
			}
			if got != c.want || p.Matches != c.matches {
				t.Errorf("got %q of %d, want %q of %d", got, p.Matches, c.want, c.matches)
			}
			if p.Totals != (Totals{Images: 10, Layers: 10, Bytes: 2000}) {
				t.Errorf("totals %+v", p.Totals)
			}
		})
	}
	if _, err := ParseColumn("colour"); err == nil {
		t.Error("an unknown column is taken")
	}
}

// TestPlatformOfConfig: where no row tells the platform the config does, also when
// it comes behind the image, and is sorted by and searched as any other.
func TestPlatformOfConfig(t *testing.T) {
	w, l := watched(t), storagetest.NewLayer(t, "x", 50_000, 16<<10)
	store := storagetest.Start(t, t.TempDir(), storage.Options{Meta: w})
	config := []byte(`{"os":"linux","architecture":"s390x"}`)
	update(t, w, func(tx storage.Tx) error {
		row := image("m", l)
		row.Platform = ""
		if err := tx.PutImage(row); err != nil {
			return err
		}
		d := v1.Descriptor{Digest: digest.FromBytes(config), Size: int64(len(config))}
		return tx.PutManifest(storage.ManifestRow{Digest: dig("m"), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest, Config: &d}})
	})
	c, q := New(w, store, nil), Query{Sort: ByPlatform, Limit: 1, Search: "linux/s390x"}
	if err := c.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := c.Page(q); p.Matches != 0 || len(c.unnamed) != 1 {
		t.Fatalf("%d matches, %d unnamed", p.Matches, len(c.unnamed))
	}
	if err := store.Put(t.Context(), storage.BlobRow{Digest: digest.FromBytes(config), Size: int64(len(config)), Kind: storage.KindBlob}, config, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.follow(t.Context(), c.take()); err != nil {
		t.Fatal(err)
	}
	if p := c.Page(q); p.Matches != 1 || p.Images[0].Platform != "linux/s390x" || len(c.unnamed) != 0 {
		t.Errorf("%+v, %d unnamed", p, len(c.unnamed))
	}
}

// BenchmarkFollow is what a change costs where there are 100,000 images, and
// BenchmarkSearch what a search costs.
func BenchmarkFollow(b *testing.B) {
	table, change := many(100_000), map[digest.Digest]*Image{}
	for i := range 10 {
		x := imageNo(i * 1000)
		x.Pulls = 7
		change[x.Manifest] = x
	}
	for b.Loop() {
		table.apply(change)
	}
}

func BenchmarkSearch(b *testing.B) {
	table := many(100_000)
	for b.Loop() {
		if p := table.page(Query{Sort: BySaved, Limit: 50, Search: "service-2499 v1.39"}); p.Matches != 1 {
			b.Fatal(p.Matches)
		}
	}
}

func many(n int) *table {
	t, change := newTable(), map[digest.Digest]*Image{}
	for i := range n {
		x := imageNo(i)
		change[x.Manifest] = x
	}
	t.apply(change)
	return t
}

func imageNo(i int) *Image {
	return &Image{
		Repository: fmt.Sprintf("docker.io/team-%02d/service-%04d", i%61, i/40), Tags: []string{fmt.Sprintf("v1.%d", i%40)}, Platform: "linux/amd64",
		Manifest: dig(fmt.Sprint("m", i)), Index: dig(fmt.Sprint("i", i)), Size: int64(i), Layers: 3, Indexed: 1, Pulls: int64(i % 997),
	}
}
