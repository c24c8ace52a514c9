package catalog

import (
	"testing"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestNamedByTag: an image has the name of a repository where a tag leads to it, also
// where it was seen in another one before; the table follows as tags come and go.
func TestNamedByTag(t *testing.T) {
	w := watched(t)
	row := image("m", storagetest.NewLayer(t, "x", 50_000, 16<<10))
	first, second := oci.Repo{Upstream: "up", Name: "pushed/app"}, oci.Repo{Upstream: "up", Name: "library/small"}
	row.Repos = []oci.Repo{first, second}
	update(t, w, func(tx storage.Tx) error { return tx.PutImage(row) })
	c := New(w, storagetest.NewStore(t), nil)
	if err := c.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	named := func(want string) {
		t.Helper()
		if err := c.follow(t.Context(), c.take()); err != nil {
			t.Fatal(err)
		}
		if p := c.Page(Query{Limit: 2}); len(p.Images) != 1 || p.Images[0].Reference != want {
			t.Errorf("the table has %+v, want %s", p.Images, want)
		}
		err := w.View(t.Context(), func(tx storage.Tx) error {
			x, _, err := Of(tx, row.Manifest.Digest)
			if err == nil && x.Reference != want {
				t.Errorf("Of says %s, want %s", x.Reference, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(repo oci.Repo, tag string) {
		update(t, w, func(tx storage.Tx) error {
			return tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: row.Manifest.Digest})
		})
	}
	byDigest := first.String() + "@" + row.Manifest.Digest.String()
	named(byDigest)
	put(second, "1")
	named(second.String() + ":1")
	put(first, "2")
	named(first.String() + ":2")
	update(t, w, func(tx storage.Tx) error { return tx.DeleteTag(first, "2") })
	named(second.String() + ":1")
	update(t, w, func(tx storage.Tx) error { return tx.DeleteTag(second, "1") })
	named(byDigest)
}
