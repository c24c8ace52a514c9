package storage_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// delete is what a client's DELETE of a manifest comes to.
func (r *registry) delete(d digest.Digest) {
	r.t.Helper()
	r.must(r.Update(r.t.Context(), func(tx storage.Tx) error {
		var tags []string
		err := tx.TagsOf(d, func(_ oci.Repo, tag string) error { tags = append(tags, tag); return nil })
		for _, tag := range tags {
			if err == nil {
				err = tx.DeleteTag(gcApp, tag)
			}
		}
		return err
	}))
	r.remove(gcApp, d)
	r.must(r.Update(r.t.Context(), func(tx storage.Tx) error { return storage.Release(tx, gcApp, d, r.clock()) }))
}

// counted is what counts of gcApp.
func (r *registry) counted() (n int64) {
	r.t.Helper()
	r.must(r.View(r.t.Context(), func(tx storage.Tx) (err error) {
		n, err = tx.ContentBytes("local")
		return err
	}))
	return n
}

// TestRelease deletes an index of images with signatures: all of it no longer
// counts, can be read for a while, and goes; what something else needs does not.
func TestRelease(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	shared := r.blob(gcApp, "shared")
	kept := r.image(gcApp, "kept", "kept", "", shared)
	tagged := r.image(gcApp, "tagged image of the index", "tagged", "")
	pinned := r.image(gcApp, "pinned image of the index", "", "")
	_, err := r.Pin(t.Context(), "local/app:pinned", pinned)
	r.must(err)
	before := r.counted()
	one, two := r.image(gcApp, "one", "", "", shared), r.image(gcApp, "two", "", "")
	index, err := r.pushManifest(gcApp, "index", "1", "", nil, []digest.Digest{one, two, tagged, pinned})
	r.must(err)
	signature := r.image(gcApp, "signature", "", one)
	ofSignature := r.image(gcApp, "signature of the signature", "", signature)
	cosign := r.image(gcApp, "cosign", fallbackTag(index)+".sig", "")
	ofOne := r.image(gcApp, "cosign of one", fallbackTag(one)+".sig", "")
	named := r.image(gcApp, "named signature", "named", index)
	ofKept := r.image(gcApp, "signature of kept", "", kept)
	gone := []digest.Digest{one, two, signature, ofSignature, cosign, ofOne, digest.FromString("layer of one"), digest.FromString("layer of cosign of one")}
	stay := []digest.Digest{kept, tagged, pinned, shared, named, ofKept, digest.FromString("layer of signature of kept")}
	all := r.counted()

	r.delete(index)
	want := before
	for _, text := range []string{"named signature", "layer of named signature", "signature of kept", "layer of signature of kept"} {
		want += int64(len(text))
	}
	if got := r.counted(); got != want || want >= all {
		t.Errorf("%d bytes count after the deletion, want %d; there were %d", got, want, all)
	}
	r.check(gcApp, true, append(gone, stay...)...)

	// It comes back whole: nothing has to be sent again but the index.
	_, err = r.pushManifest(gcApp, "index", "1", "", nil, []digest.Digest{one, two, tagged, pinned})
	r.must(err)
	r.must(r.Update(t.Context(), func(tx storage.Tx) error {
		rows, err := storage.Reclaim(tx, gcApp, index)
		for _, row := range rows {
			if err == nil {
				err = tx.PutContent(row)
			}
		}
		return err
	}))
	if got := r.counted(); got != all {
		t.Errorf("%d bytes count after it was pushed again, want %d", got, all)
	}
	r.pass(100 * time.Hour)
	r.collect(r.collector())
	r.check(gcApp, true, append(gone, stay...)...)

	r.pass(100 * time.Hour) // they were read
	r.delete(index)
	r.collect(r.collector())
	r.check(gcApp, false, gone...)
	r.check(gcApp, true, stay...)
	if got := r.counted(); got != want {
		t.Errorf("%d bytes count in the end, want %d", got, want)
	}
}

// TestReleaseWaits: what was released goes after its grace.
func TestReleaseWaits(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	one := r.image(gcApp, "one", "", "")
	index, err := r.pushManifest(gcApp, "index", "1", "", nil, []digest.Digest{one})
	r.must(err)
	r.pass(100 * time.Hour)
	r.check(gcApp, true, index, one) // a use
	r.delete(index)
	if list, _ := r.collect(r.collector()); len(list) != 0 {
		t.Errorf("collected at once: %+v", list)
	}
	r.check(gcApp, true, one, digest.FromString("layer of one"))
	r.pass(2 * grace)
	list, report := r.collect(r.collector())
	r.check(gcApp, false, one)
	if report.Manifests != 2 || report.Blobs != 1 || len(list) != 3 { // the index, which the client deleted, too
		t.Errorf("%+v", list)
	}
	var told int64
	for _, x := range list {
		told += x.Bytes
	}
	if told != report.Freed || told == 0 {
		t.Errorf("%d bytes are told of, and %d freed", told, report.Freed)
	}
}

// TestCollectDeletedBlob: a blob that a client deleted is in the report.
func TestCollectDeletedBlob(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	d := r.blob(gcApp, "deleted")
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteContent(gcApp, d) }))
	list, report := r.collect(r.collector())
	if report.Blobs != 1 || report.Freed != int64(len("deleted")) || len(list) != 1 || list[0].Bytes != report.Freed {
		t.Errorf("%+v, %+v", report, list)
	}
}
