package storagetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sociable/sociable/storage"
)

func metaSeen(t *testing.T, m storage.Meta) {
	a := storage.PullRow{Manifest: dig("a"), Pulls: 1, Last: noon}
	b := storage.PullRow{Manifest: dig("b"), Pulls: 1 << 40, Last: noon.Add(time.Nanosecond)}
	if b.Manifest < a.Manifest {
		a, b = b, a
	}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutPulls(b), tx.PutPulls(a), tx.DeletePulls(dig("none")), tx.PutSamples("x", []byte("one")))
	})
	a.Pulls, a.Last = 7, noon.Add(time.Hour)
	update(t, m, func(tx storage.Tx) error { return first(tx.PutPulls(a), tx.PutSamples("x", []byte("two"))) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Pulls", a)(tx.Pulls(a.Manifest))
		checkAbsent[storage.PullRow](t, "Pulls of another manifest")(tx.Pulls(dig("none")))
		checkList(t, "AllPulls", tx.AllPulls, a, b)
		if got, err := tx.Samples("x"); err != nil || !bytes.Equal(got, []byte("two")) {
			t.Errorf("Samples: %q, %v", got, err)
		}
		if _, err := tx.Samples("y"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Samples that are not there: %v, want ErrNotFound", err)
		}
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeletePulls(a.Manifest), tx.DeletePulls(a.Manifest)) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "AllPulls after one was deleted", tx.AllPulls, b)
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return tx.DeleteManifest(b.Manifest) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "AllPulls after its manifest was deleted", tx.AllPulls)
		return nil
	})
}
