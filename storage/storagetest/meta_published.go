package storagetest

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func metaPublished(t *testing.T, m storage.Meta) {
	row := func(subject, index digest.Digest, repo oci.Repo) storage.PublishedRow {
		return storage.PublishedRow{
			Repo: repo, Subject: subject, Index: index, V2: true, Fallback: true, Made: true,
			Tags: []string{"7-soci"}, Taken: []string{"8-soci"}, Instead: dig("theirs"), Gone: true, At: noon,
		}
	}
	subjects, indexes := byDigest(dig("s"), dig("t")), byDigest(dig("i"), dig("j"))
	a := row(subjects[0], indexes[0], repoA)
	b := row(subjects[0], indexes[0], repoB)
	c := row(subjects[0], indexes[1], repoA)
	d := row(subjects[1], indexes[0], repoA)
	e := row(dig512("s"), indexes[0], repoA)
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutPublished(e), tx.PutPublished(d), tx.PutPublished(c), tx.PutPublished(b), tx.PutPublished(a), tx.PutPublished(a))
	})
	of := func(tx storage.Tx, d digest.Digest) func(func(storage.PublishedRow) error) error {
		return func(fn func(storage.PublishedRow) error) error { return tx.PublishedOf(d, fn) }
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Published", a)(tx.Published(repoA, a.Subject, a.Index))
		checkAbsent[storage.PublishedRow](t, "Published in another repository")(tx.Published(repoC, a.Subject, a.Index))
		checkAbsent[storage.PublishedRow](t, "Published of another subject")(tx.Published(repoB, d.Subject, d.Index))
		checkList(t, "PublishedOf", of(tx, subjects[0]), a, b, c)
		checkList(t, "AllPublished", tx.AllPublished, a, b, c, d, e)
		return nil
	})
	a.Tags = []string{"7-soci", "latest-soci"}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutPublished(a), tx.DeletePublished(repoB, b.Subject, b.Index), tx.DeletePublished(repoB, b.Subject, b.Index))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "PublishedOf after changes", of(tx, subjects[0]), a, c)
		return nil
	})
}
