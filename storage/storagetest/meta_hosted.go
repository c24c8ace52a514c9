package storagetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// someContent puts digests into several repositories of two upstreams, and of
// names of which one begins the other.
func someContent(t *testing.T, m storage.Meta) (repos []oci.Repo, ds []digest.Digest) {
	repos = []oci.Repo{
		{Upstream: "local", Name: "a"}, {Upstream: "local", Name: "a-b"}, {Upstream: "local", Name: "a/b"},
		{Upstream: "local", Name: "b"}, {Upstream: "local2", Name: "a"},
	}
	ds = byDigest(dig("1"), dig("2"), dig512("3"))
	update(t, m, func(tx storage.Tx) error {
		for i := range ds {
			for _, repo := range repos {
				if err := tx.PutContent(contentRow(repo, ds, i)); err != nil {
					return err
				}
			}
		}
		return tx.PutContent(contentRow(repos[0], ds, 0)) // again: counted once
	})
	return repos, ds
}

func contentRow(repo oci.Repo, ds []digest.Digest, i int) storage.ContentRow {
	return storage.ContentRow{Repo: repo, Digest: ds[i], Size: int64(100 << i), Manifest: i == 1, Pushed: noon}
}

func contentOf(tx storage.Tx, d digest.Digest) func(func(oci.Repo) error) error {
	return func(fn func(oci.Repo) error) error { return tx.ContentOf(d, fn) }
}

func checkContentBytes(t *testing.T, tx storage.Tx, upstream string, want int64) {
	t.Helper()
	if n, err := tx.ContentBytes(upstream); n != want || err != nil {
		t.Errorf("ContentBytes of %s: %d, %v, want %d", upstream, n, err, want)
	}
}

func metaContent(t *testing.T, m storage.Meta) {
	repos, ds := someContent(t, m)
	contents := func(tx storage.Tx, repo oci.Repo) func(func(storage.ContentRow) error) error {
		return func(fn func(storage.ContentRow) error) error { return tx.Contents(repo, fn) }
	}
	after := func(tx storage.Tx, last string) func(func(oci.Repo) error) error {
		return func(fn func(oci.Repo) error) error { return tx.ContentRepos("local", last, fn) }
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Content", contentRow(repos[2], ds, 1))(tx.Content(repos[2], ds[1]))
		checkAbsent[storage.ContentRow](t, "Content")(tx.Content(repos[2], dig("none")))
		checkList(t, "Contents", contents(tx, repos[0]), contentRow(repos[0], ds, 0), contentRow(repos[0], ds, 1), contentRow(repos[0], ds, 2))
		checkList(t, "Contents of none", contents(tx, repoA))
		var all []storage.ContentRow
		for _, repo := range repos {
			all = append(all, contentRow(repo, ds, 0), contentRow(repo, ds, 1), contentRow(repo, ds, 2))
		}
		checkList(t, "AllContents", tx.AllContents, all...)
		checkList(t, "ContentOf", contentOf(tx, ds[2]), repos...)
		checkList(t, "ContentRepos", after(tx, ""), repos[:4]...)
		for i := range repos[:4] {
			checkList(t, "ContentRepos after "+repos[i].Name, after(tx, repos[i].Name), repos[i+1:4]...)
		}
		checkList(t, "ContentRepos after one that is not there", after(tx, "a."), repos[2:4]...)
		checkContentBytes(t, tx, "local", 700)
		checkContentBytes(t, tx, "local2", 700)
		checkContentBytes(t, tx, "other", 0)
		ok, err := tx.HasRight(repos[3], ds[0])
		if !ok || err != nil {
			t.Errorf("HasRight: %t, %v, want true", ok, err)
		}
		return nil
	})
}

func metaContentChanged(t *testing.T, m storage.Meta) {
	repos, ds := someContent(t, m)
	later := contentRow(repos[1], ds, 0)
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
		checkList(t, "ContentOf, deleted elsewhere", contentOf(tx, ds[0]), repos[1], repos[4])
		checkContentBytes(t, tx, "local", 300)
		checkContentBytes(t, tx, "local2", 100)
		ok, err := tx.HasRight(repos[3], ds[0])
		if ok || err != nil {
			t.Errorf("HasRight, deleted: %t, %v, want false", ok, err)
		}
		return nil
	})
	metaReleased(t, m, later)
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

// metaReleased releases row, of 100 bytes, which local has besides 200 others.
func metaReleased(t *testing.T, m storage.Meta, row storage.ContentRow) {
	second, gone := row, row
	second.Repo.Name = "z"
	gone.Released = noon
	goneToo := second
	goneToo.Released = noon
	lost, lostToo, lostAndGone := row, second, gone
	lost.Lost, lostToo.Lost, lostAndGone.Lost = true, true, true
	for _, step := range []struct {
		name   string
		change func(storage.Tx) error
		want   int64
	}{
		{"released", func(tx storage.Tx) error { return tx.PutContent(gone) }, 200},
		{"again", func(tx storage.Tx) error { return tx.PutContent(gone) }, 200},
		{"another repository has it", func(tx storage.Tx) error { return tx.PutContent(second) }, 300},
		{"and releases it", func(tx storage.Tx) error { return tx.PutContent(goneToo) }, 200},
		{"claimed again", func(tx storage.Tx) error { return tx.PutContent(second) }, 300},
		{"deleted there", func(tx storage.Tx) error { return tx.DeleteContent(second.Repo, row.Digest) }, 200},
		{"new and released", func(tx storage.Tx) error { return tx.PutContent(goneToo) }, 200},
		{"deleted, released", func(tx storage.Tx) error { return tx.DeleteContent(second.Repo, row.Digest) }, 200},
		{"claimed", func(tx storage.Tx) error { return tx.PutContent(row) }, 300},
		{"lost", func(tx storage.Tx) error { return tx.PutContent(lost) }, 200},
		{"lost and released", func(tx storage.Tx) error { return tx.PutContent(lostAndGone) }, 200},
		{"here again, released", func(tx storage.Tx) error { return tx.PutContent(gone) }, 200},
		{"lost when it was released", func(tx storage.Tx) error { return tx.PutContent(lostAndGone) }, 200},
		{"claimed while it is lost", func(tx storage.Tx) error { return tx.PutContent(lost) }, 200},
		{"another has it, lost", func(tx storage.Tx) error { return tx.PutContent(lostToo) }, 200},
		{"here again there", func(tx storage.Tx) error { return tx.PutContent(second) }, 300},
		{"and here", func(tx storage.Tx) error { return tx.PutContent(row) }, 300},
		{"lost there", func(tx storage.Tx) error { return tx.PutContent(lostToo) }, 300},
		{"deleted there, lost", func(tx storage.Tx) error { return tx.DeleteContent(second.Repo, row.Digest) }, 300},
	} {
		update(t, m, step.change)
		view(t, m, func(tx storage.Tx) error {
			checkContentBytes(t, tx, "local", step.want)
			if has, err := tx.HasRight(row.Repo, row.Digest); !has || err != nil {
				t.Errorf("%s: HasRight: %t, %v", step.name, has, err)
			}
			if step.name == "released" {
				checkRow(t, "Content, released", gone)(tx.Content(row.Repo, row.Digest))
			}
			return nil
		})
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
