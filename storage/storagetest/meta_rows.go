package storagetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// byDigest sorts as keys do: sha256 before sha512, then by the hash.
func byDigest(ds ...digest.Digest) []digest.Digest {
	return slices.SortedFunc(slices.Values(ds), func(a, b digest.Digest) int {
		return strings.Compare(a.String(), b.String())
	})
}

func metaRights(t *testing.T, m storage.Meta) {
	d, e := dig("1"), dig512("1")
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutRight(repoD, d), tx.PutRight(repoA, d), tx.PutRight(repoA, d), tx.PutRight(repoB, d), tx.PutRight(repoC, e))
	})
	view(t, m, func(tx storage.Tx) error {
		for _, c := range []struct {
			repo oci.Repo
			d    digest.Digest
			want bool
		}{
			{repoA, d, true}, {repoB, d, true}, {repoC, d, false}, {repoD, d, true},
			{repoA, e, false}, {repoC, e, true}, {oci.Repo{}, d, false}, {repoA, dig("2"), false},
			{oci.Repo{Upstream: "docker.io", Name: "library"}, d, false},
		} {
			got, err := tx.HasRight(c.repo, c.d)
			if err != nil || got != c.want {
				t.Errorf("HasRight %s %.12s: %t, %v, want %t", c.repo, c.d, got, err, c.want)
			}
		}
		checkList(t, "RightRepos", repos(tx, d), repoA, repoB, repoD)
		checkList(t, "RightRepos, sha512", repos(tx, e), repoC)
		checkList(t, "RightRepos, none", repos(tx, dig("2")))
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteRight(repoA, d), tx.DeleteRight(repoA, d), tx.DeleteRight(repoC, d))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "RightRepos after delete", repos(tx, d), repoB, repoD)
		return nil
	})
	metaLearnt(t, m)
}

// metaLearnt forgets what was learnt of one upstream and of no other.
func metaLearnt(t *testing.T, m storage.Meta) {
	d, e := dig("1"), dig512("1")
	other := oci.Repo{Upstream: repoA.Upstream + "x", Name: repoA.Name}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutRight(repoA, d), tx.PutRight(repoA, e), tx.PutRight(other, d),
			tx.PutLearnt(repoA.Upstream, "us"), tx.PutLearnt(other.Upstream, "callers"), tx.PutLearnt(repoA.Upstream, "anyone"))
	})
	update(t, m, func(tx storage.Tx) error { return tx.ForgetRights(repoA.Upstream) })
	view(t, m, func(tx storage.Tx) error {
		for _, x := range []digest.Digest{d, e} {
			if ok, err := tx.HasRight(repoA, x); ok || err != nil {
				t.Errorf("HasRight %s, forgotten: %t, %v", x.Algorithm(), ok, err)
			}
		}
		if ok, err := tx.HasRight(other, d); !ok || err != nil {
			t.Errorf("HasRight at another upstream: %t, %v", ok, err)
		}
		if as, err := tx.Learnt(repoA.Upstream); as != "anyone" || err != nil {
			t.Errorf("Learnt: %q, %v", as, err)
		}
		if _, err := tx.Learnt("nowhere"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Learnt of nothing: %v, want ErrNotFound", err)
		}
		return nil
	})
}

func repos(tx storage.Tx, d digest.Digest) func(func(oci.Repo) error) error {
	return func(fn func(oci.Repo) error) error { return tx.RightRepos(d, fn) }
}

func blobRow(d digest.Digest, k storage.Kind) storage.BlobRow {
	return storage.BlobRow{Digest: d, Size: 1234, Kind: k, Created: noon, Accessed: noon.Add(time.Hour)}
}

func metaBlobs(t *testing.T, m storage.Meta) {
	kinds := []storage.Kind{storage.KindBlob, storage.KindSpan, storage.KindManifest, storage.KindZTOC, storage.KindIndex, storage.KindHot}
	rows := map[digest.Digest]storage.BlobRow{}
	for _, k := range kinds {
		for _, d := range []digest.Digest{dig(string(k)), dig512(string(k))} {
			rows[d] = blobRow(d, k)
		}
	}
	of := blobRow(dig("of"), storage.KindSpan)
	of.Of, of.Size = dig512("layer"), 1<<62
	old := blobRow(dig("old"), storage.KindBlob)
	old.Created, old.Accessed, old.Size = time.Time{}, time.Date(1969, 12, 31, 23, 59, 59, 1, time.UTC), 0
	rows[of.Digest], rows[old.Digest] = of, old
	var want []storage.BlobRow
	ds := make([]digest.Digest, 0, len(rows))
	for d := range rows {
		ds = append(ds, d)
	}
	for _, d := range byDigest(ds...) {
		want = append(want, rows[d])
	}
	update(t, m, func(tx storage.Tx) error {
		for _, row := range rows {
			if err := tx.PutBlob(row); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, m, func(tx storage.Tx) error {
		for _, row := range rows {
			checkRow(t, "Blob", row)(tx.Blob(row.Digest))
		}
		checkAbsent[storage.BlobRow](t, "Blob")(tx.Blob(dig("none")))
		checkList(t, "Blobs", tx.Blobs, want...)
		for i := range want {
			after := func(fn func(storage.BlobRow) error) error { return tx.BlobsAfter(want[i].Digest, fn) }
			checkList(t, "BlobsAfter", after, want[i+1:]...)
		}
		return nil
	})
	old.Kind, old.Of = storage.KindZTOC, dig("layer")
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutBlob(old), tx.DeleteBlob(of.Digest), tx.DeleteBlob(of.Digest))
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Blob, replaced", old)(tx.Blob(old.Digest))
		checkAbsent[storage.BlobRow](t, "Blob, deleted")(tx.Blob(of.Digest))
		return nil
	})
}

func metaTouch(t *testing.T, m storage.Meta) {
	a, b := blobRow(dig("a"), storage.KindBlob), blobRow(dig("b"), storage.KindSpan)
	b.Of = dig("of")
	later := noon.Add(48 * time.Hour)
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutBlob(a), tx.PutBlob(b))
	})
	update(t, m, func(tx storage.Tx) error {
		return tx.Touch(map[digest.Digest]time.Time{b.Digest: later, dig("none"): later})
	})
	b.Accessed = later
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Blob, not touched", a)(tx.Blob(a.Digest))
		checkRow(t, "Blob, touched", b)(tx.Blob(b.Digest))
		checkAbsent[storage.BlobRow](t, "Blob, touched and absent")(tx.Blob(dig("none")))
		return nil
	})
}

func metaPartials(t *testing.T, m storage.Meta) {
	ds := byDigest(dig("1"), dig("2"), dig512("3"))
	a := storage.PartialRow{Digest: ds[0], Size: -1, Touched: noon}
	b := storage.PartialRow{Digest: ds[1], Size: 100, Have: []oci.Range{{Off: 0, End: 10}, {Off: 20, End: 1 << 40}}, Touched: noon}
	c := storage.PartialRow{Digest: ds[2], Size: 0, Touched: noon}
	update(t, m, func(tx storage.Tx) error { return first(tx.PutPartial(c), tx.PutPartial(b), tx.PutPartial(a)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Partial", b)(tx.Partial(b.Digest))
		checkAbsent[storage.PartialRow](t, "Partial")(tx.Partial(dig("none")))
		checkAbsent[storage.BlobRow](t, "Blob of a partial")(tx.Blob(b.Digest))
		checkList(t, "Partials", tx.Partials, a, b, c)
		return nil
	})
	b.Have = b.Have[:1]
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutPartial(b), tx.DeletePartial(a.Digest), tx.DeletePartial(a.Digest))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Partials after changes", tx.Partials, b, c)
		return nil
	})
}

func metaTags(t *testing.T, m storage.Meta) {
	row := func(repo oci.Repo, tag string) storage.TagRow {
		return storage.TagRow{Repo: repo, Tag: tag, Digest: dig(tag), Checked: noon}
	}
	tags := []string{"1", "1.0", "1.0-a", "10", "Z", "latest"}
	var want []storage.TagRow
	update(t, m, func(tx storage.Tx) error {
		want = nil
		for _, tag := range tags {
			want = append(want, row(repoA, tag))
			if err := first(tx.PutTag(row(repoA, tag)), tx.PutTag(row(repoB, tag)), tx.PutTag(row(repoC, tag))); err != nil {
				return err
			}
		}
		return nil
	})
	iterate := func(tx storage.Tx, repo oci.Repo, last string) func(func(storage.TagRow) error) error {
		return func(fn func(storage.TagRow) error) error { return tx.Tags(repo, last, fn) }
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Tag", row(repoA, "1.0"))(tx.Tag(repoA, "1.0"))
		checkAbsent[storage.TagRow](t, "Tag, other repository")(tx.Tag(repoD, "1.0"))
		checkAbsent[storage.TagRow](t, "Tag, none")(tx.Tag(repoA, ""))
		checkList(t, "Tags", iterate(tx, repoA, ""), want...)
		for i, tag := range tags {
			checkList(t, "Tags after "+tag, iterate(tx, repoA, tag), want[i+1:]...)
		}
		checkList(t, "Tags after one that is not there", iterate(tx, repoA, "1.0-"), want[2:]...)
		checkList(t, "Tags of a repository without", iterate(tx, repoD, ""))
		return nil
	})
	moved := row(repoA, "latest")
	moved.Digest, moved.Checked = dig("moved"), noon.Add(time.Minute)
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutTag(moved), tx.DeleteTag(repoA, "1"), tx.DeleteTag(repoA, "1"))
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Tag, moved", moved)(tx.Tag(repoA, "latest"))
		checkAbsent[storage.TagRow](t, "Tag, deleted")(tx.Tag(repoA, "1"))
		checkRow(t, "Tag, same name elsewhere", row(repoB, "1"))(tx.Tag(repoB, "1"))
		return nil
	})
}

func descriptor(n string) v1.Descriptor {
	return v1.Descriptor{
		MediaType: v1.MediaTypeImageLayerGzip, Digest: dig(n), Size: int64(len(n)),
		Annotations: map[string]string{"n": n}, URLs: []string{"https://example.org/" + n},
		Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, ArtifactType: "application/x." + n,
	}
}

func metaManifests(t *testing.T, m storage.Meta) {
	config, subject := descriptor("config"), descriptor("subject")
	full := storage.ManifestRow{Digest: dig("m"), Size: 77, Manifest: oci.Manifest{
		MediaType: v1.MediaTypeImageManifest, ArtifactType: "application/x", Config: &config, Subject: &subject,
		Layers:      []v1.Descriptor{descriptor("l1"), descriptor("l2")},
		Manifests:   []v1.Descriptor{descriptor("m1")},
		Annotations: map[string]string{"a": "b<&>\u2028"},
	}}
	bare := storage.ManifestRow{Digest: dig512("bare"), Manifest: oci.Manifest{MediaType: oci.MediaTypeDockerManifest}}
	update(t, m, func(tx storage.Tx) error { return first(tx.PutManifest(full), tx.PutManifest(bare)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Manifest", full)(tx.Manifest(full.Digest))
		checkRow(t, "Manifest, bare", bare)(tx.Manifest(bare.Digest))
		checkAbsent[storage.ManifestRow](t, "Manifest")(tx.Manifest(dig("none")))
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteManifest(full.Digest), tx.DeleteManifest(full.Digest))
	})
	view(t, m, func(tx storage.Tx) error {
		checkAbsent[storage.ManifestRow](t, "Manifest, deleted")(tx.Manifest(full.Digest))
		return nil
	})
}

func metaReferrers(t *testing.T, m storage.Meta) {
	subject, other := dig("subject"), dig512("subject")
	var want []storage.ReferrerRow
	update(t, m, func(tx storage.Tx) error {
		want = nil
		for _, n := range []string{"a", "b", "c"} {
			row := storage.ReferrerRow{Subject: subject, Descriptor: descriptor(n)}
			want = append(want, row)
			row2 := storage.ReferrerRow{Subject: other, Descriptor: descriptor("other " + n)}
			if err := first(tx.PutReferrer(row), tx.PutReferrer(row2)); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(want, func(a, b storage.ReferrerRow) int {
		return strings.Compare(a.Descriptor.Digest.String(), b.Descriptor.Digest.String())
	})
	iterate := func(tx storage.Tx, d digest.Digest) func(func(storage.ReferrerRow) error) error {
		return func(fn func(storage.ReferrerRow) error) error { return tx.Referrers(d, fn) }
	}
	want[1].Descriptor.Annotations = nil
	update(t, m, func(tx storage.Tx) error {
		gone := want[0].Descriptor.Digest
		return first(tx.PutReferrer(want[1]), tx.DeleteReferrer(subject, gone), tx.DeleteReferrer(subject, gone))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Referrers", iterate(tx, subject), want[1:]...)
		checkList(t, "Referrers of none", iterate(tx, dig("none")))
		if rows, err := list(iterate(tx, other)); err != nil || len(rows) != 3 {
			t.Errorf("Referrers of another subject: %d rows, %v, want 3", len(rows), err)
		}
		return nil
	})
}

func metaOwnValues(t *testing.T, m storage.Meta) {
	table := []byte("table")
	row := storage.LayerRow{Digest: dig("1"), Head: []byte("head")}
	update(t, m, func(tx storage.Tx) error {
		err := first(tx.PutSpans(dig("1"), 0, table), tx.PutLayer(row))
		table[0], row.Head[0] = 'X', 'X' // what was put is not the caller's any more
		return first(err)
	})
	var spans, head []byte
	view(t, m, func(tx storage.Tx) error {
		got, err := tx.Spans(dig("1"), 0)
		layer, err2 := tx.Layer(dig("1"), 0)
		spans, head = got, layer.Head
		return first(err, err2)
	})
	if diff := cmp.Diff([]string{"table", "head"}, []string{string(spans), string(head)}); diff != "" {
		t.Errorf("values changed with the caller's (-want +got):\n%s", diff)
	}
	spans[0], head[0] = 'X', 'X' // nor is what was given the Meta's
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Spans", []byte("table"))(tx.Spans(dig("1"), 0))
		return nil
	})
}
