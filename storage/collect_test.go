package storage_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

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
		{"no rule", storage.Retention{}, []string{"immutable-1", "new", "old", "v1", "v2"}},
		{"the last", storage.Retention{KeepLast: 2}, []string{"immutable-1", "new", "v2"}},
		{"young ones", storage.Retention{KeepFor: 2*day + time.Hour}, []string{"immutable-1", "new", "v2"}},
		{"by name", storage.Retention{KeepTags: []string{"v*"}}, []string{"immutable-1", "v1", "v2"}},
		{"name or last", storage.Retention{KeepTags: []string{"v1"}, KeepLast: 1}, []string{"immutable-1", "new", "v1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t, storage.Options{})
			for _, tag := range []string{"immutable-1", "old", "v1", "v2", "new"} {
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
		u, err := r.NewUploadBy(t.Context(), "", 0, gcApp, digest.SHA256)
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
