package storagetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// metaContent has digests in several repositories of two upstreams, and in
// names of which one begins the other.
func metaContent(t *testing.T, m storage.Meta) {
	repos := []oci.Repo{
		{Upstream: "local", Name: "a"}, {Upstream: "local", Name: "a-b"}, {Upstream: "local", Name: "a/b"},
		{Upstream: "local", Name: "b"}, {Upstream: "local2", Name: "a"},
	}
	ds := byDigest(dig("1"), dig("2"), dig512("3"))
	row := func(repo oci.Repo, i int) storage.ContentRow {
		return storage.ContentRow{Repo: repo, Digest: ds[i], Size: int64(100 << i), Manifest: i == 1, Pushed: noon}
	}
	update(t, m, func(tx storage.Tx) error {
		for i := range ds {
			for _, repo := range repos {
				if err := tx.PutContent(row(repo, i)); err != nil {
					return err
				}
			}
		}
		return tx.PutContent(row(repos[0], 0)) // again: counted once
	})
	contents := func(tx storage.Tx, repo oci.Repo) func(func(storage.ContentRow) error) error {
		return func(fn func(storage.ContentRow) error) error { return tx.Contents(repo, fn) }
	}
	of := func(tx storage.Tx, d digest.Digest) func(func(oci.Repo) error) error {
		return func(fn func(oci.Repo) error) error { return tx.ContentOf(d, fn) }
	}
	after := func(tx storage.Tx, last string) func(func(oci.Repo) error) error {
		return func(fn func(oci.Repo) error) error { return tx.ContentRepos("local", last, fn) }
	}
	checkBytes := func(tx storage.Tx, upstream string, want int64) {
		t.Helper()
		if n, err := tx.ContentBytes(upstream); n != want || err != nil {
			t.Errorf("ContentBytes of %s: %d, %v, want %d", upstream, n, err, want)
		}
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Content", row(repos[2], 1))(tx.Content(repos[2], ds[1]))
		checkAbsent[storage.ContentRow](t, "Content")(tx.Content(repos[2], dig("none")))
		checkList(t, "Contents", contents(tx, repos[0]), row(repos[0], 0), row(repos[0], 1), row(repos[0], 2))
		checkList(t, "Contents of none", contents(tx, repoA))
		checkList(t, "ContentOf", of(tx, ds[2]), repos...)
		checkList(t, "ContentRepos", after(tx, ""), repos[:4]...)
		for i := range repos[:4] {
			checkList(t, "ContentRepos after "+repos[i].Name, after(tx, repos[i].Name), repos[i+1:4]...)
		}
		checkList(t, "ContentRepos after one that is not there", after(tx, "a."), repos[2:4]...)
		checkBytes(tx, "local", 700)
		checkBytes(tx, "local2", 700)
		checkBytes(tx, "other", 0)
		ok, err := tx.HasRight(repos[3], ds[0])
		if !ok || err != nil {
			t.Errorf("HasRight: %t, %v, want true", ok, err)
		}
		return nil
	})
	later := row(repos[1], 0)
	later.Pushed = noon.Add(time.Hour)
	update(t, m, func(tx storage.Tx) error {
		err := first(tx.PutContent(later), tx.DeleteContent(repoA, ds[0]), tx.DeleteContent(repos[4], ds[1]))
		for _, repo := range []oci.Repo{repos[0], repos[2], repos[3], repos[3]} { // twice is success
			err = first(err, tx.DeleteContent(repo, ds[0]))
		}
		for _, repo := range repos {
			err = first(err, tx.DeleteContent(repo, ds[2]))
		}
		return err
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Content, pushed again", later)(tx.Content(repos[1], ds[0]))
		checkList(t, "ContentOf, deleted elsewhere", of(tx, ds[0]), repos[1], repos[4])
		checkBytes(tx, "local", 300)
		checkBytes(tx, "local2", 100)
		ok, err := tx.HasRight(repos[3], ds[0])
		if ok || err != nil {
			t.Errorf("HasRight, deleted: %t, %v, want false", ok, err)
		}
		return nil
	})
	asBlob := later // a manifest stays one
	later.Manifest = true
	update(t, m, func(tx storage.Tx) error { return first(tx.PutContent(later), tx.PutContent(asBlob)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Content, a manifest that came again as a blob", later)(tx.Content(repos[1], ds[0]))
		return nil
	})
	if err := m.Update(t.Context(), func(tx storage.Tx) error {
		other := later
		other.Size++
		return tx.PutContent(other)
	}); err == nil {
		t.Error("PutContent with another size succeeds")
	}
}

func metaUploads(t *testing.T, m storage.Meta) {
	a := storage.UploadRow{ID: "a", Repo: repoA, Algorithm: digest.SHA256, Started: noon, Touched: noon}
	b := storage.UploadRow{ID: "b", Repo: repoB, Algorithm: digest.SHA512, Size: 1 << 40, Started: noon, Touched: noon.Add(time.Second)}
	update(t, m, func(tx storage.Tx) error { return first(tx.PutUpload(b), tx.PutUpload(a)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Upload", b)(tx.Upload("b"))
		checkAbsent[storage.UploadRow](t, "Upload")(tx.Upload("c"))
		checkList(t, "Uploads", tx.Uploads, a, b)
		return nil
	})
	b.Size++
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutUpload(b), tx.DeleteUpload("a"), tx.DeleteUpload("a"))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Uploads after changes", tx.Uploads, b)
		return nil
	})
}
