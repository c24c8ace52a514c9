package storage_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestCheckMendsBlobRows has the row of a blob say what another's does, which its bytes
// and the rows that name it do not: it is told, and put right.
func TestCheckMendsBlobRows(t *testing.T) {
	layer := stockLayer(t)
	for _, c := range []struct {
		name  string
		of    func(r *stock, pushed *hosted) digest.Digest
		wrong func(row *storage.BlobRow)
	}{
		{"size of a blob", func(r *stock, _ *hosted) digest.Digest { return r.blob }, func(row *storage.BlobRow) { row.Size = 5 }},
		{"size of what was pushed", func(_ *stock, h *hosted) digest.Digest { return h.layer }, func(row *storage.BlobRow) { row.Size = 1 << 30 }},
		{"what was pushed", func(_ *stock, h *hosted) digest.Digest { return h.layer }, func(row *storage.BlobRow) { row.Kind = storage.KindBlob }},
		{"a manifest", func(r *stock, _ *hosted) digest.Digest { return r.image }, func(row *storage.BlobRow) { row.Kind = storage.KindBlob }},
		{"an index", func(r *stock, _ *hosted) digest.Digest { return r.index }, func(row *storage.BlobRow) { row.Kind, row.Of = storage.KindManifest, "" }},
		{"a zTOC", func(r *stock, _ *hosted) digest.Digest { return r.layer.Row.ZTOC }, func(row *storage.BlobRow) { row.Kind = storage.KindSpan }},
		{"a blob", func(r *stock, _ *hosted) digest.Digest { return r.blob }, func(row *storage.BlobRow) { row.Kind, row.Of = storage.KindZTOC, layer.Digest() }},
		{"a span", func(r *stock, _ *hosted) digest.Digest { return r.span }, func(row *storage.BlobRow) { row.Kind = storage.KindZTOC }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newStock(t, layer)
			d := c.of(r, r.pushSigned("a layer", "v1"))
			row, err := r.row(d)
			if err != nil {
				t.Fatal(err)
			}
			other := row
			c.wrong(&other)
			r.update(func(tx storage.Tx) error { return tx.PutBlob(other) })
			r.rig = r.reopen(storage.Options{})
			if found, _ := r.check(false); !slices.Equal(found, []string{"row " + d.String()}) {
				t.Errorf("found %q, want the row", found)
			}
			r.check(true)
			if got, err := r.row(d); got != row || err != nil {
				t.Errorf("the row is %+v, %v, want %+v", got, err, row)
			}
			if found, _ := r.check(false); len(found) > 0 {
				t.Errorf("after the repair there is still %q", found)
			}
			r.wantServed("what is right", d)
			r.wantUsage()
		})
	}
}

// TestOpenMissized opens blobs of which the rows say wrong sizes: what was pushed has
// no other copy, and is served; what was pulled is to be fetched again.
func TestOpenMissized(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	pushed, pulled := r.push(gcApp, "a layer", nil), r.mustPut(kb("pulled", 3), storage.KindBlob, storage.Durable)
	err := r.Update(t.Context(), func(tx storage.Tx) error {
		for _, d := range []digest.Digest{pushed, pulled} {
			row, err := tx.Blob(d)
			if err != nil {
				return err
			}
			row.Size++
			if err := tx.PutBlob(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r = r.reopen(storage.Options{})
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.check(false) // counts
	r.wantServed("what was pushed", pushed)
	r.wantAbsent("what was pulled", pulled)
	r.wantUsage()
	if found, _ := r.check(false); len(found) > 0 {
		t.Errorf("found %q", found)
	}
}
