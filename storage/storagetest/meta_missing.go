package storagetest

import (
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func metaMissing(t *testing.T, m storage.Meta) {
	row := func(repo oci.Repo, ref string, blob bool) storage.MissingRow {
		return storage.MissingRow{Repo: repo, Reference: ref, Blob: blob, Asked: 1, First: noon, Last: noon}
	}
	a, b, c := row(repoA, "7", false), row(repoA, dig("x").String(), true), row(repoB, "7", false)
	d := row(repoC, "7", false)
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutMissing(d), tx.PutMissing(c), tx.PutMissing(b), tx.PutMissing(a), tx.DeleteMissing(repoD, "7"))
	})
	a.Asked, a.Last = 5, noon.Add(time.Hour)
	update(t, m, func(tx storage.Tx) error { return tx.PutMissing(a) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Missing", a)(tx.Missing(repoA, "7"))
		checkAbsent[storage.MissingRow](t, "Missing of another repository")(tx.Missing(repoD, "7"))
		checkList(t, "AllMissing", tx.AllMissing, a, b, c, d)
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteMissing(repoA, "7"), tx.DeleteMissing(repoA, "7")) })
	view(t, m, func(tx storage.Tx) error {
		checkAbsent[storage.MissingRow](t, "Missing after it was deleted")(tx.Missing(repoA, "7"))
		checkList(t, "AllMissing after that", tx.AllMissing, b, c, d)
		return nil
	})
}
