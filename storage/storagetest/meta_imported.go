package storagetest

import (
	"testing"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func metaImported(t *testing.T, m storage.Meta) {
	row := func(name string) storage.ImportedRow {
		return storage.ImportedRow{
			Layer: dig(name), Size: 1 << 40, ZTOC: dig("ztoc"), Blob: dig(name + " spans"), BlobSize: 20, Head: []byte{0, 1, 2},
			Runs: []storage.ImportedRun{{Range: oci.Range{Off: 3, End: 13}, At: 7}}, Signed: "k", Created: noon,
		}
	}
	a, b := row("a"), row("b")
	c := storage.ImportedRow{Layer: dig512("a"), Size: 1, Created: noon}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutImported(c), tx.PutImported(b), tx.PutImported(a), tx.DeleteImported(dig("none")))
	})
	a.Blob = dig("other spans")
	update(t, m, func(tx storage.Tx) error { return tx.PutImported(a) })
	sorted := []storage.ImportedRow{a, b, c}
	for i, d := range byDigest(a.Layer, b.Layer, c.Layer) {
		for _, r := range []storage.ImportedRow{a, b, c} {
			if r.Layer == d {
				sorted[i] = r
			}
		}
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Imported", a)(tx.Imported(a.Layer))
		checkAbsent[storage.ImportedRow](t, "Imported by the digest of its blob")(tx.Imported(a.Blob))
		checkList(t, "AllImported", tx.AllImported, sorted...)
		return nil
	})
	// What is known of the layer otherwise is another matter, and stays apart.
	update(t, m, func(tx storage.Tx) error { return tx.DeleteLayer(a.Layer, 1) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Imported after DeleteLayer", a)(tx.Imported(a.Layer))
		checkAbsent[[]byte](t, "Spans of a layer that was imported")(tx.Spans(a.Layer, 1))
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteImported(a.Layer), tx.DeleteImported(a.Layer)) })
	view(t, m, func(tx storage.Tx) error {
		checkAbsent[storage.ImportedRow](t, "Imported after it was deleted")(tx.Imported(a.Layer))
		return nil
	})
}
