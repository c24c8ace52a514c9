package indexer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestOneImageInManyRepositories: what is made of a manifest does not depend on
// who asked for it first, and whether it is offered is a matter of the repository.
func TestOneImageInManyRepositories(t *testing.T) {
	none, small, big := parseRepo(t, "lab/none"), parseRepo(t, "lab/small"), parseRepo(t, "lab/big")
	rules := []Rule{
		{Repositories: []string{"lab/none"}, Publish: PublishNone, SpanSize: 32 << 10},
		{Repositories: []string{"lab/huge"}, MinLayerSize: 1 << 40},
		{Repositories: []string{"lab/small"}, Publish: PublishV2, SpanSize: 64 << 10},
		{Repositories: []string{"lab/**"}, Publish: PublishV1, SpanSize: 128 << 10},
	}
	a := newLayer(t, 1)
	img := newImage(t, "img", a)
	repos := []oci.Repo{none, parseRepo(t, "lab/huge"), small, big}
	var first digest.Digest
	for i := range repos {
		order := append(slices.Clone(repos[i:]), repos[:i]...)
		t.Run(fmt.Sprint(order[0]), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := start(t, t.TempDir(), Options{Rules: rules}, nil)
				w.whole(a)
				for _, repo := range order {
					w.manifest(repo, img)
					w.settle()
				}
				got := w.wantIndex(img, a)
				w.wantSpans(img, 64<<10)
				if first == "" {
					first = got.Digest
				}
				if got.Digest != first {
					t.Errorf("index %s, in another order %s", got.Digest, first)
				}
				w.wantOffers(img, map[oci.Repo]bool{none: false, repos[1]: false, small: false, big: true})
			})
		})
	}
}

// wantOffers checks where the v1 index of an image is to be listed.
func (w *world) wantOffers(img *image, want map[oci.Repo]bool) {
	w.t.Helper()
	w.check("look", w.store.View(w.t.Context(), func(tx storage.Tx) error {
		for repo, want := range want {
			if got, err := w.x.Offers(tx, repo, img.digest); got != want || err != nil {
				w.t.Errorf("offered in %s: %t, %v; want %t", repo, got, err, want)
			}
		}
		return nil
	}))
}

// TestAskedForOnce: sizes that are asked for hold until they are dropped, and
// where an index is wanted, or not, is a matter of each repository.
func TestAskedForOnce(t *testing.T) {
	one, two := parseRepo(t, "lab/one"), parseRepo(t, "lab/two")
	three := parseRepo(t, "lab/three")
	rules := []Rule{
		{Repositories: []string{"lab/one"}, SpanSize: 128 << 10}, {Repositories: []string{"lab/two"}, Publish: PublishNone},
		{Repositories: []string{"lab/three"}, Publish: PublishV2},
	}
	a := newLayer(t, 1)
	img := newImage(t, "img", a)
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: rules}, nil)
		w.keep(a)
		w.manifest(one, img)
		w.manifest(two, img)
		w.settle()
		want := func(repo oci.Repo, how storage.Asked) {
			t.Helper()
			w.check("want", w.x.Want(t.Context(), repo, row, how))
			w.settle()
		}
		withdraw := func(repo oci.Repo) {
			t.Helper()
			w.check("withdraw", w.store.Update(t.Context(), func(tx storage.Tx) error {
				_, err := storage.WithdrawIndexes(tx, repo, img.digest, w.x.now())
				return err
			}))
			w.settle()
		}
		was := w.wantIndex(img, a).Digest
		w.wantOffers(img, map[oci.Repo]bool{one: true, two: false})
		want(one, storage.Asked{SpanSize: 64 << 10})
		w.wantSpans(img, 64<<10)
		want(one, storage.Asked{MinLayerSize: new(int64(1 << 40))})
		w.wantNoIndex(img)
		want(one, storage.Asked{}) // drops what was asked for
		w.wantSpans(img, 128<<10)
		if got := w.wantIndex(img, a).Digest; got != was {
			t.Errorf("index %s, want %s as the rule has it", got, was)
		}
		want(two, storage.Asked{}) // whatever its rule says
		w.wantOffers(img, map[oci.Repo]bool{one: true, two: true})
		w.manifest(three, img)
		w.settle()
		w.wantOffers(img, map[oci.Repo]bool{three: false})
		want(three, storage.Asked{})
		w.wantOffers(img, map[oci.Repo]bool{three: true})
		withdraw(three)
		withdraw(two)
		w.wantIndex(img, a)
		w.wantOffers(img, map[oci.Repo]bool{one: true, two: false})
		withdraw(one)
		w.wantNoIndex(img)
		w.wantOffers(img, map[oci.Repo]bool{one: false, two: false})
		want(two, storage.Asked{})
		w.wantIndex(img, a)
		w.wantOffers(img, map[oci.Repo]bool{one: false, two: true})
		withdraw(oci.Repo{})
		w.wantNoIndex(img)
		want(one, storage.Asked{})
		w.wantOffers(img, map[oci.Repo]bool{one: true, two: false})
	})
}
