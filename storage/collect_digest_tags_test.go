package storage_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func (r *registry) tags() (tags []string) {
	r.t.Helper()
	r.must(r.View(r.t.Context(), func(tx storage.Tx) error {
		tags = nil
		return tx.Tags(gcApp, "", func(row storage.TagRow) error { tags = append(tags, row.Tag); return nil })
	}))
	return tags
}

// TestCollectCosignTags: what is tagged with a manifest's digest, as cosign does,
// takes the place of no tag that retention counts, and goes with the manifest.
func TestCollectCosignTags(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	first, second := r.image(gcApp, "first", "1", ""), r.image(gcApp, "second", "2", "")
	r.pass(time.Hour)
	signed := map[digest.Digest][]digest.Digest{}
	var ofSecond []string
	for _, suffix := range []string{"", ".att", ".sbom", ".sig"} {
		ofSecond = append(ofSecond, fallbackTag(second)+suffix)
		signed[first] = append(signed[first], r.image(gcApp, "of first"+suffix, fallbackTag(first)+suffix, ""))
		signed[second] = append(signed[second], r.image(gcApp, "of second"+suffix, fallbackTag(second)+suffix, ""))
	}
	r.pass(100 * time.Hour)
	rule := storage.Retention{Repositories: []string{"local/app"}, KeepLast: 2, Untagged: 50 * time.Hour}
	if list, _ := r.collect(r.collector(rule)); len(list) > 0 {
		t.Errorf("two tags are to stay, and what is about them; collected: %+v", list)
	}
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(gcApp, "1") }))
	r.remove(gcApp, first)
	r.collect(r.collector(rule))
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(ofSecond), "2"))), r.tags()); diff != "" {
		t.Errorf("tags after the first was deleted (-want +got):\n%s", diff)
	}
	r.check(gcApp, false, append(signed[first], first)...)
	r.check(gcApp, true, append(signed[second], second)...)

	// By retention: in one collection.
	r.pass(100 * time.Hour)
	r.image(gcApp, "third", "3", "")
	r.pass(2 * grace)
	r.image(gcApp, "fourth", "4", "")
	r.pass(100 * time.Hour)
	r.collect(r.collector(rule))
	if diff := cmp.Diff([]string{"3", "4"}, r.tags()); diff != "" {
		t.Errorf("tags at last (-want +got):\n%s", diff)
	}
	r.check(gcApp, false, append(signed[second], second)...)
}

// TestCollectSignaturesAlone: tags about manifests that were never here are tags
// as any other, and what is signed anew after its deletion is not collected for that.
func TestCollectSignaturesAlone(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	var all []string
	for _, name := range []string{"a", "b", "c"} {
		tag := fallbackTag(digest.FromString(name)) + ".sig"
		all = append(all, tag)
		r.image(gcApp, "signature of "+name, tag, "")
		r.pass(2 * grace)
	}
	r.collect(r.collector())
	if diff := cmp.Diff(slices.Sorted(slices.Values(all)), r.tags()); diff != "" {
		t.Errorf("without a rule (-want +got):\n%s", diff)
	}
	r.collect(r.collector(storage.Retention{Repositories: []string{"local/app"}, KeepLast: 1}))
	if diff := cmp.Diff(all[2:], r.tags()); diff != "" {
		t.Errorf("keep_last: 1 (-want +got):\n%s", diff)
	}

	subject := r.image(gcApp, "subject", "", "")
	sig := fallbackTag(subject) + ".sig"
	r.image(gcApp, "old signature", sig, "")
	r.remove(gcApp, subject)
	d := r.image(gcApp, "new signature", sig, "")
	r.pass(100 * time.Hour)
	r.collect(r.collector())
	r.check(gcApp, true, d)
	long := "sha512-" + strings.Repeat("0", 64) // of which manifest can't be told
	r.image(gcApp, "of a long digest", long, "")
	r.pass(100 * time.Hour)
	r.collect(r.collector(storage.Retention{Repositories: []string{"local/app"}, KeepLast: 1}))
	if !slices.Contains(r.tags(), long) {
		t.Errorf("%s is gone", long)
	}
}

// TestDeletedImageLeavesItsRepository: the indexer's books no longer name it.
func TestDeletedImageLeavesItsRepository(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	d := r.image(gcApp, "image", "1", "")
	r.must(r.Update(t.Context(), func(tx storage.Tx) error {
		img := storage.ImageRow{Repos: []oci.Repo{gcApp, gcOther}, Tags: []string{"local/app:1", "local/other:1"}}
		img.Manifest.Digest = d
		return tx.PutImage(img)
	}))
	r.remove(gcApp, d)
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		img, err := tx.Image(d)
		if len(img.Repos) != 1 || img.Repos[0] != gcOther || len(img.Tags) != 1 || img.Tags[0] != "local/other:1" {
			t.Errorf("%+v is left", img)
		}
		return err
	}))
}

// TestCollectEmptied: of a repository whose images are gone nothing is left.
func TestCollectEmptied(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	empty := r.blob(gcApp, string(oci.EmptyJSON))
	d := r.image(gcApp, "image", "", "", empty)
	r.blob(gcOther, string(oci.EmptyJSON))
	other := r.image(gcOther, "other", "", "", empty)
	r.remove(gcApp, d)
	r.pass(2 * grace)
	r.collect(r.collector())
	r.check(gcOther, true, other, empty)
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		var repos []oci.Repo
		err := tx.ContentRepos("local", "", func(repo oci.Repo) error { repos = append(repos, repo); return nil })
		if len(repos) != 1 || repos[0] != gcOther {
			t.Errorf("repositories %v", repos)
		}
		return err
	}))
}
