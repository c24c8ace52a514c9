package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

var (
	gcApp   = oci.Repo{Upstream: "local", Name: "app"}
	gcOther = oci.Repo{Upstream: "local", Name: "other"}
)

// registry is a store that images are pushed to, with a clock of its own.
type registry struct {
	*storage.Store
	t   *testing.T
	now atomic.Int64
}

func newRegistry(t *testing.T, o storage.Options) *registry {
	r := &registry{t: t}
	r.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	o.Now = r.clock
	r.Store = storagetest.Start(t, t.TempDir(), o)
	return r
}

func (r *registry) clock() time.Time     { return time.Unix(0, r.now.Load()).UTC() }
func (r *registry) pass(d time.Duration) { r.now.Add(int64(d)) }
func (r *registry) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

var errMissing = errors.New("the manifest names what is not here")

// pushBlob is what a finished upload comes to.
func (r *registry) pushBlob(repo oci.Repo, body string) (digest.Digest, error) {
	d := digest.FromString(body)
	return d, r.Put(r.t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindHosted}, []byte(body), func(tx storage.Tx) error {
		return tx.PutContent(storage.ContentRow{Repo: repo, Digest: d, Size: int64(len(body)), Pushed: r.clock()})
	})
}

// pushManifest is what a manifest PUT comes to: errMissing where repo does not
// have all that it names.
func (r *registry) pushManifest(repo oci.Repo, name, tag string, subject digest.Digest, layers, manifests []digest.Digest) (digest.Digest, error) {
	body := []byte(name)
	row := storage.ManifestRow{Digest: digest.FromBytes(body), Size: int64(len(body)), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest}}
	for _, d := range layers {
		row.Manifest.Layers = append(row.Manifest.Layers, v1.Descriptor{Digest: d})
	}
	for _, d := range manifests {
		row.Manifest.Manifests = append(row.Manifest.Manifests, v1.Descriptor{Digest: d})
	}
	if subject != "" {
		row.Manifest.Subject = &v1.Descriptor{Digest: subject}
	}
	return row.Digest, r.Put(r.t.Context(), storage.BlobRow{Digest: row.Digest, Kind: storage.KindManifest}, body, func(tx storage.Tx) error {
		for _, d := range storage.Named(&row.Manifest) {
			has, err := tx.HasRight(repo, d)
			if err == nil {
				_, err = tx.Blob(d)
			}
			if errors.Is(err, storage.ErrNotFound) || err == nil && !has {
				return errMissing
			}
			if err != nil {
				return err
			}
		}
		err := errors.Join(tx.PutManifest(row),
			tx.PutContent(storage.ContentRow{Repo: repo, Digest: row.Digest, Size: row.Size, Manifest: true, Pushed: r.clock()}))
		if subject != "" {
			err = errors.Join(err, tx.PutReferrer(storage.ReferrerRow{Repo: repo, Subject: subject, Descriptor: v1.Descriptor{Digest: row.Digest}}))
		}
		if tag != "" {
			err = errors.Join(err, tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: row.Digest, Checked: r.clock()}))
		}
		return err
	})
}

func (r *registry) blob(repo oci.Repo, body string) digest.Digest {
	r.t.Helper()
	d, err := r.pushBlob(repo, body)
	r.must(err)
	return d
}

// image pushes a manifest of one layer each of its own.
func (r *registry) image(repo oci.Repo, name, tag string, subject digest.Digest, more ...digest.Digest) digest.Digest {
	r.t.Helper()
	d, err := r.pushManifest(repo, name, tag, subject, append([]digest.Digest{r.blob(repo, "layer of "+name)}, more...), nil)
	r.must(err)
	return d
}

// remove is what a DELETE comes to.
func (r *registry) remove(repo oci.Repo, d digest.Digest) {
	r.t.Helper()
	r.must(r.Update(r.t.Context(), func(tx storage.Tx) error {
		row, err := tx.Content(repo, d)
		if err != nil {
			return err
		}
		return storage.DropContent(tx, row, r.clock())
	}))
}

const grace = time.Hour

func (r *registry) collector(rules ...storage.Retention) *storage.Collector {
	return storage.NewCollector(storage.CollectOptions{
		Store: r.Store, Hosted: []string{"local"}, Rules: rules, Grace: grace, Pulled: 48 * time.Hour, Uploads: 24 * time.Hour,
		Immutable: func(_ oci.Repo, tag string) bool { return strings.HasPrefix(tag, "immutable") },
	})
}

// collect runs a collection, after a dry run that has to say the same.
func (r *registry) collect(c *storage.Collector) (list []storage.Collected, report storage.CollectReport) {
	r.t.Helper()
	var dry []storage.Collected
	forecast, err := c.Collect(r.t.Context(), true, func(x storage.Collected) { dry = append(dry, x) })
	r.must(err)
	report, err = c.Collect(r.t.Context(), false, func(x storage.Collected) { list = append(list, x) })
	r.must(err)
	key := func(a, b storage.Collected) int {
		return strings.Compare(a.What+a.Repo+a.Tag+a.Digest.String()+a.Upload, b.What+b.Repo+b.Tag+b.Digest.String()+b.Upload)
	}
	slices.SortFunc(dry, key)
	slices.SortFunc(list, key)
	if diff := cmp.Diff(dry, list); diff != "" {
		r.t.Errorf("dry run and collection differ (-dry +real):\n%s", diff)
	}
	if forecast.Freed != report.Freed || !forecast.DryRun || report.DryRun {
		r.t.Errorf("dry run %+v, collection %+v", forecast, report)
	}
	return list, report
}

// here reports whether repo has d and its bytes can be read.
func (r *registry) here(repo oci.Repo, d digest.Digest) bool {
	r.t.Helper()
	has := false
	r.must(r.View(r.t.Context(), func(tx storage.Tx) (err error) {
		has, err = tx.HasRight(repo, d)
		return err
	}))
	b, err := r.Open(r.t.Context(), d)
	if errors.Is(err, storage.ErrNotFound) {
		return false
	}
	r.must(err)
	r.must(b.Close())
	return has
}

func (r *registry) check(repo oci.Repo, want bool, ds ...digest.Digest) {
	r.t.Helper()
	for i, d := range ds {
		if got := r.here(repo, d); got != want {
			r.t.Errorf("number %d of %s: here %t, want %t", i, repo, got, want)
		}
	}
}

func TestCollectBlobs(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	kept := r.image(gcApp, "tagged", "1", "")
	old := r.blob(gcApp, "nobody names it")
	asked := r.blob(gcApp, "somebody asked for it")
	both := r.blob(gcApp, "in two repositories")
	r.blob(gcOther, "in two repositories")
	user, err := r.pushManifest(gcOther, "uses both", "1", "", []digest.Digest{both}, nil)
	r.must(err)
	r.pass(grace + time.Second)
	young := r.blob(gcApp, "just pushed")
	row, err := r.Stat(t.Context(), asked)
	r.must(err)
	r.Used(row)
	_, report := r.collect(r.collector())
	r.check(gcApp, true, kept, digest.FromString("layer of tagged"), asked, young)
	r.check(gcApp, false, old, both)
	r.check(gcOther, true, both, user)
	if report.Blobs != 2 || report.Freed != int64(len("nobody names it")) || report.Manifests != 0 {
		t.Errorf("%+v", report)
	}
	if b, err := r.Open(t.Context(), old); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("%v, %v: the bytes stay", b, err)
	}
	usage := r.Usage()
	if got := usage.Blobs[storage.KindHosted]; got != 4 {
		t.Errorf("%d hosted blobs are counted, want 4", got)
	}
}

func TestCollectUntagged(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	one, two := r.image(gcApp, "one", "", ""), r.image(gcApp, "two", "", "")
	index, err := r.pushManifest(gcApp, "index", "multi", "", nil, []digest.Digest{one, two})
	r.must(err)
	alone := r.image(gcApp, "alone", "", "")
	r.pass(100 * time.Hour)
	r.collect(r.collector())
	r.check(gcApp, true, one, two, index, alone, digest.FromString("layer of alone")) // no rule: all stays
	rule := storage.Retention{Repositories: []string{"local/**"}, Untagged: 99 * time.Hour}
	r.collect(r.collector(rule)) // reading them above was a use
	r.check(gcApp, true, one, two, index, alone)
	r.pass(100 * time.Hour)
	r.collect(r.collector(storage.Retention{Repositories: []string{"local/other"}, Untagged: time.Hour}, rule))
	r.check(gcApp, false, alone, digest.FromString("layer of alone"))
	r.check(gcApp, true, one, two, index, digest.FromString("layer of one"))
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(gcApp, "multi") }))
	r.pass(100 * time.Hour)
	_, report := r.collect(r.collector(rule))
	r.check(gcApp, false, one, two, index, digest.FromString("layer of one"), digest.FromString("layer of two"))
	if report.Manifests != 3 || report.Blobs != 2 {
		t.Errorf("%+v, want the index, its manifests and their layers", report)
	}
}

func TestCollectTags(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name string
		rule storage.Retention
		want []string
	}{
		{"no rule", storage.Retention{}, []string{"immutable-1", "new", "old", "sha256-" + strings.Repeat("0", 64), "v1", "v2"}},
		{"the last", storage.Retention{KeepLast: 2}, []string{"immutable-1", "new", "sha256-" + strings.Repeat("0", 64), "v2"}},
		{"young ones", storage.Retention{KeepFor: 2*day + time.Hour}, []string{"immutable-1", "new", "sha256-" + strings.Repeat("0", 64), "v2"}},
		{"by name", storage.Retention{KeepTags: []string{"v*"}}, []string{"immutable-1", "sha256-" + strings.Repeat("0", 64), "v1", "v2"}},
		{"name or last", storage.Retention{KeepTags: []string{"v1"}, KeepLast: 1}, []string{"immutable-1", "new", "sha256-" + strings.Repeat("0", 64), "v1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t, storage.Options{})
			for _, tag := range []string{"sha256-" + strings.Repeat("0", 64), "immutable-1", "old", "v1", "v2", "new"} {
				r.image(gcApp, "image "+tag, tag, "")
				r.pass(day)
			}
			c.rule.Repositories = []string{"local/app"}
			c.rule.Untagged = time.Hour
			r.collect(r.collector(c.rule))
			var tags []string
			r.must(r.View(t.Context(), func(tx storage.Tx) error {
				return tx.Tags(gcApp, "", func(row storage.TagRow) error { tags = append(tags, row.Tag); return nil })
			}))
			if diff := cmp.Diff(c.want, tags); diff != "" {
				t.Errorf("tags that stay (-want +got):\n%s", diff)
			}
			for _, tag := range []string{"old", "v1", "v2", "new"} {
				r.check(gcApp, slices.Contains(c.want, tag), digest.FromString("image "+tag), digest.FromString("layer of image "+tag))
			}
		})
	}
}

func TestCollectReferrers(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	subject := r.image(gcApp, "subject", "1", "")
	signature := r.image(gcApp, "signature", "", subject)
	ofSignature := r.image(gcApp, "signature of the signature", "", signature)
	tagged := r.image(gcApp, "tagged signature", "sig", subject)
	never := r.image(gcApp, "of what never was", "", digest.FromString("never pushed"))
	elsewhere := r.image(gcOther, "signature", "", subject) // its subject was never pushed there
	r.pass(100 * time.Hour)
	rule := storage.Retention{Repositories: []string{"local/app"}, Untagged: 1000 * time.Hour}
	r.collect(r.collector(rule))
	r.check(gcApp, true, subject, signature, ofSignature, tagged, never)
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(gcApp, "1") }))
	r.remove(gcApp, subject)
	r.collect(r.collector(rule))
	r.check(gcApp, false, subject, signature, ofSignature)
	r.check(gcApp, true, tagged, never)
	r.check(gcOther, true, elsewhere)
	r.pass(2000 * time.Hour)
	r.collect(r.collector(rule))
	r.check(gcApp, false, never)
	r.check(gcApp, true, tagged)
}

func TestCollectUploads(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	begin := func() string {
		u, err := r.NewUpload(t.Context(), gcApp, digest.SHA256)
		r.must(err)
		defer u.Release()
		_, err = u.Write(t.Context(), []byte("half"))
		r.must(errors.Join(err, u.Checkpoint(t.Context())))
		return u.ID()
	}
	abandoned, busy := begin(), begin()
	r.pass(25 * time.Hour)
	young := begin()
	u, err := r.OpenUpload(t.Context(), gcApp, busy)
	r.must(err)
	report, err := r.collector().Collect(t.Context(), false, nil)
	r.must(err)
	u.Release()
	if report.Uploads != 1 || report.Freed != 4 {
		t.Errorf("%+v, want one upload of 4 bytes", report)
	}
	for id, want := range map[string]error{abandoned: storage.ErrNotFound, busy: nil, young: nil} {
		u, err := r.OpenUpload(t.Context(), gcApp, id)
		if !errors.Is(err, want) {
			t.Errorf("upload %s: %v, want %v", id, err, want)
		}
		if err == nil {
			u.Release()
		}
	}
}

// TestCollectPulled: what was pulled long ago leaves no row behind.
func TestCollectPulled(t *testing.T) {
	l := storagetest.NewLayer(t, "collect", 300_000, 1<<16)
	r := newRegistry(t, storage.Options{})
	l.Store(t, r.Store)
	pull := func(name string, layers ...digest.Digest) digest.Digest {
		body := []byte(name)
		row := storage.ManifestRow{Digest: digest.FromBytes(body), Size: int64(len(body)), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest}}
		img := storage.ImageRow{Manifest: v1.Descriptor{Digest: row.Digest}, Repos: []oci.Repo{repoA}}
		for _, d := range layers {
			row.Manifest.Layers = append(row.Manifest.Layers, v1.Descriptor{Digest: d})
			img.Layers = append(img.Layers, storage.ImageLayer{Descriptor: v1.Descriptor{Digest: d}, SpanSize: l.Row.SpanSize})
		}
		r.must(r.Put(t.Context(), storage.BlobRow{Digest: row.Digest, Kind: storage.KindManifest}, body, func(tx storage.Tx) error {
			return errors.Join(tx.PutManifest(row), tx.PutRight(repoA, row.Digest), tx.PutImage(img),
				tx.PutTag(storage.TagRow{Repo: repoA, Tag: name, Digest: row.Digest, Checked: r.clock()}))
		}))
		return row.Digest
	}
	old := pull("old", l.Digest())
	soci := []byte("soci index")
	index := digest.FromBytes(soci)
	r.must(r.Put(t.Context(), storage.BlobRow{Digest: index, Kind: storage.KindIndex, Of: old}, soci, func(tx storage.Tx) error {
		img, err := tx.Image(old)
		img.Index = index
		return errors.Join(err, tx.PutImage(img), tx.PutManifest(storage.ManifestRow{Digest: index}),
			tx.PutReferrer(storage.ReferrerRow{Subject: old, Descriptor: v1.Descriptor{Digest: index}}),
			tx.PutRight(repoA, l.Digest()), tx.PutConversion(storage.ConversionRow{Source: v1.Descriptor{Digest: old}, Repo: repoA}),
			tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: repoA, Subject: old}))
	}))
	pinned, asked := pull("pinned"), pull("asked")
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { // of a subject that never came by
		return tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: repoA, Subject: digest.FromString("never"), Checked: r.clock()})
	}))
	_, err := r.Pin(t.Context(), "docker.io/library/a:pinned", pinned)
	r.must(err)
	r.must(r.Flush(t.Context()))
	r.pass(49 * time.Hour)
	row, err := r.Stat(t.Context(), asked)
	r.must(err)
	r.Used(row)
	young := pull("young")
	_, report := r.collect(r.collector())
	if report.Manifests != 1 || report.Made != 2 || report.Blobs != 0 {
		t.Errorf("%+v, want one manifest, its index and a zTOC", report)
	}
	r.check(repoA, false, old, index, l.Row.ZTOC)
	r.check(repoA, true, pinned, asked, young)
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		absent := func(what string, err error) {
			if !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", what, err)
			}
		}
		_, err := tx.Manifest(old)
		absent("manifest", err)
		_, err = tx.Manifest(index)
		absent("index's manifest", err)
		_, err = tx.Image(old)
		absent("image", err)
		_, err = tx.Layer(l.Digest(), l.Row.SpanSize)
		absent("layer", err)
		_, err = tx.Spans(l.Digest(), l.Row.SpanSize)
		absent("spans", err)
		_, err = tx.Tag(repoA, "old")
		absent("tag", err)
		_, err = tx.UpstreamReferrers(repoA, old)
		absent("upstream's referrers", err)
		_, err = tx.Conversion(old, repoA)
		absent("conversion", err)
		_, err = tx.UpstreamReferrers(repoA, digest.FromString("never"))
		absent("upstream's referrers of what never came by", err)
		for _, d := range []digest.Digest{old, l.Digest()} {
			if has, err := tx.HasRight(repoA, d); has || err != nil {
				t.Errorf("right to %s: %t, %v", d, has, err)
			}
		}
		return tx.Referrers(old, func(storage.ReferrerRow) error { t.Error("still listed"); return nil })
	}))
}

// TestCollectWhilePushing has clients push, mount, retag and delete while
// garbage is collected without any grace: whatever a push was told is there, is.
func TestCollectWhilePushing(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	c := storage.NewCollector(storage.CollectOptions{
		Store: r.Store, Hosted: []string{"local"}, Rules: []storage.Retention{{Repositories: []string{"local/**"}, Untagged: 1}},
	})
	ctx, stop := context.WithCancel(t.Context())
	var collector, clients sync.WaitGroup
	var runs int
	collector.Go(func() {
		for ctx.Err() == nil {
			r.pass(time.Second)
			if _, err := c.Collect(t.Context(), false, nil); err != nil {
				t.Error(err)
			}
			runs++
		}
	})
	type tagged struct {
		tag    string
		d      digest.Digest
		layers []digest.Digest
	}
	last := make([]tagged, 4)
	for n := range last {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(n)))
			for i := range 60 {
				var layers []digest.Digest
				for range 1 + rnd.IntN(3) {
					d, err := r.pushBlob(gcApp, fmt.Sprint("layer ", rnd.IntN(12))) // shared with the other clients
					if err != nil {
						t.Error(err)
					}
					layers = append(layers, d)
				}
				tag := fmt.Sprint("client", n)
				d, err := r.pushManifest(gcApp, fmt.Sprint("image ", n, i), tag, "", layers, nil)
				switch {
				case errors.Is(err, errMissing): // told so; it would push them again
				case err != nil:
					t.Error(err)
				default:
					last[n] = tagged{tag, d, layers}
					for _, d := range append(layers, d) {
						if _, err := r.Stat(t.Context(), d); err != nil {
							t.Errorf("client %d: %v, after its push was accepted", n, err)
						}
					}
				}
			}
		})
	}
	clients.Wait()
	stop()
	collector.Wait()
	r.pass(time.Hour)
	_, err := c.Collect(t.Context(), false, nil)
	r.must(err)
	if runs == 0 {
		t.Error("nothing was collected meanwhile")
	}
	var kept int
	for _, x := range last {
		if x.d == "" {
			continue
		}
		kept++
		r.check(gcApp, true, append(slices.Clone(x.layers), x.d)...)
	}
	if kept == 0 {
		t.Error("no push got through")
	}
	var rows int
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		rows = 0
		return tx.Blobs(func(row storage.BlobRow) error {
			if row.Kind == storage.KindManifest {
				rows++
			}
			return nil
		})
	}))
	if rows != kept {
		t.Errorf("%d manifests are left, want the %d that are tagged", rows, kept)
	}
}

// shaky fails updates on order, some after they were stored.
type shaky struct {
	storage.Meta
	rnd *rand.Rand
	on  bool
}

var errShaky = errors.New("no space left on device")

func (s *shaky) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if !s.on {
		return s.Meta.Update(ctx, fn)
	}
	switch s.rnd.IntN(4) {
	case 0:
		return errShaky
	case 1:
		return errors.Join(s.Meta.Update(ctx, fn), errShaky)
	}
	return s.Meta.Update(ctx, fn)
}

// TestCollectFaults: whatever fails half-way, nothing that is needed goes, and
// the next collection does the rest.
func TestCollectFaults(t *testing.T) {
	for seed := range uint64(8) {
		db, err := bolt.Open(t.TempDir()+"/meta.db", bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		meta := &shaky{Meta: db, rnd: rand.New(rand.NewPCG(seed, 0))}
		r := newRegistry(t, storage.Options{Meta: meta})
		shared := r.blob(gcApp, "shared")
		kept := r.image(gcApp, "kept", "1", "", shared)
		var gone []digest.Digest
		for i := range 150 {
			gone = append(gone, r.image(gcApp, fmt.Sprint("gone ", i), "", "", shared), digest.FromString(fmt.Sprint("layer of gone ", i)))
		}
		r.pass(100 * time.Hour)
		c := r.collector(storage.Retention{Repositories: []string{"local/app"}, Untagged: time.Hour})
		meta.on = true
		for range 4 {
			if _, err := c.Collect(t.Context(), false, nil); err != nil && !errors.Is(err, errShaky) {
				t.Fatal(err)
			}
			r.check(gcApp, true, kept, shared, digest.FromString("layer of kept"))
		}
		meta.on = false
		r.pass(100 * time.Hour)
		_, err = c.Collect(t.Context(), false, nil)
		r.must(err)
		r.check(gcApp, false, gone...)
		r.check(gcApp, true, kept, shared, digest.FromString("layer of kept"))
		report, err := r.Check(t.Context(), storage.CheckOptions{})
		if err != nil || report.Problems != 0 {
			t.Errorf("seed %d: check: %+v, %v", seed, report, err)
		}
	}
}

func TestCollectOneAtATime(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	c := r.collector()
	r.blob(gcApp, "garbage")
	r.pass(100 * time.Hour)
	_, err := c.Collect(t.Context(), false, func(storage.Collected) {
		if _, err := c.Collect(t.Context(), true, nil); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("a second collection: %v, want ErrBusy", err)
		}
	})
	r.must(err)
}

// TestCollectMany walks a store of 11,000 blobs in batches: no row of it is
// garbage, and none is kept in memory.
func TestCollectMany(t *testing.T) {
	db, err := bolt.Open(t.TempDir()+"/meta.db", bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	scale := storagetest.Scale{Images: 100, LayersPerImage: 8, SpansPerLayer: 100}
	storagetest.Generate(t, db, scale)
	r := newRegistry(t, storage.Options{Meta: db})
	report, err := r.collector().Collect(t.Context(), true, nil)
	r.must(err)
	if report.Manifests+report.Made+report.Blobs+report.Tags != 0 {
		t.Errorf("%+v, want nothing: all was pulled lately", report)
	}
	r.pass(1000 * time.Hour)
	report, err = r.collector().Collect(t.Context(), true, nil)
	r.must(err)
	if report.Manifests != scale.Images || report.Blobs != 0 {
		t.Errorf("%+v, want %d manifests", report, scale.Images)
	}
}
