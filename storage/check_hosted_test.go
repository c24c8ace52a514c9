package storage_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// push stores what a finished push to repo comes to; a manifest where m is one.
func (r *rig) push(repo oci.Repo, body string, m *oci.Manifest) digest.Digest {
	r.t.Helper()
	row := storage.BlobRow{Digest: digest.FromString(body), Kind: storage.KindHosted}
	if m != nil {
		row.Kind = storage.KindManifest
	}
	err := r.Put(r.t.Context(), row, []byte(body), func(tx storage.Tx) error {
		err := tx.PutContent(storage.ContentRow{Repo: repo, Digest: row.Digest, Size: int64(len(body)), Manifest: m != nil, Pushed: noon})
		if m == nil {
			return err
		}
		if m.Subject != nil {
			err = errors.Join(err, tx.PutReferrer(storage.ReferrerRow{Repo: repo, Subject: m.Subject.Digest, Descriptor: v1.Descriptor{Digest: row.Digest}}))
		}
		return errors.Join(err, tx.PutManifest(storage.ManifestRow{Digest: row.Digest, Size: int64(len(body)), Manifest: *m}))
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return row.Digest
}

// TestCheckGivesHostedRows loses rows of what was pushed: all of it comes back
// as what it was, and is neither evicted nor collected.
func TestCheckGivesHostedRows(t *testing.T) {
	const (
		imageType = "application/vnd.oci.image.manifest.v1+json"
		indexType = "application/vnd.oci.image.index.v1+json"
	)
	for _, andManifests := range []bool{false, true} {
		t.Run(fmt.Sprint("rows of manifests too ", andManifests), func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 10_000})
			layer := r.push(gcApp, "a layer", nil)
			image := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"c","digest":%q,"size":7},"layers":[]}`, imageType, layer)
			likeManifest := r.push(gcApp, image+" ", nil) // a blob all the same
			subject := r.push(gcApp, image, &oci.Manifest{MediaType: imageType, Config: &v1.Descriptor{MediaType: "c", Digest: layer, Size: 7}, ArtifactType: "c"})
			artifact := r.push(gcApp, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"s","digest":%q,"size":7},"layers":[],"subject":{"mediaType":"m","digest":%q,"size":9}}`,
				imageType, layer, subject), &oci.Manifest{MediaType: imageType, Subject: &v1.Descriptor{MediaType: "m", Digest: subject, Size: 9}})
			empty := r.push(gcOther, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q}`, indexType), &oci.Manifest{MediaType: indexType})
			want := map[digest.Digest]storage.Kind{
				layer: storage.KindHosted, likeManifest: storage.KindHosted,
				subject: storage.KindManifest, artifact: storage.KindManifest, empty: storage.KindManifest,
			}
			err := r.Update(t.Context(), func(tx storage.Tx) error {
				var errs []error
				for d, kind := range want {
					errs = append(errs, tx.DeleteBlob(d))
					if andManifests && kind == storage.KindManifest {
						errs = append(errs, tx.DeleteManifest(d))
					}
				}
				return errors.Join(errs...)
			})
			if err != nil {
				t.Fatal(err)
			}
			r = r.reopen(storage.Options{MaxBytes: 10_000})
			if found, _ := r.check(true); len(found) != len(want) {
				t.Errorf("found %v, want %d problems", found, len(want))
			}
			for d, kind := range want {
				row, err := r.row(d)
				if err != nil || row.Kind != kind || row.Of != "" {
					t.Errorf("row %+v, %v, want a %s", row, err, kind)
				}
				r.wantServed(string(kind), d)
			}
			r.mustPut(kb("fills it", 9), storage.KindBlob, storage.Durable)
			r.mustPut(kb("and again", 9), storage.KindBlob, storage.Durable)
			collector := storage.NewCollector(storage.CollectOptions{Store: r.Store, Hosted: []string{"local"}})
			if _, err := collector.Collect(t.Context(), false, nil); err != nil {
				t.Fatal(err)
			}
			for _, d := range []digest.Digest{layer, subject, artifact, empty} {
				r.wantServed("what is hosted", d)
			}
			if found, _ := r.check(false); len(found) > 0 {
				t.Errorf("after the repair there is still %v", found)
			}
			r.wantUsage()
		})
	}
}

// TestSweepLeavesHosted has a server start on a store where the row of a hosted
// blob was lost: its bytes wait for the repair.
func TestSweepLeavesHosted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		layer, old := r.push(gcApp, "a layer", nil), r.mustPut(kb("old", 5), storage.KindBlob, storage.Durable)
		if err := r.Update(t.Context(), func(tx storage.Tx) error { return errors.Join(tx.DeleteBlob(layer), tx.DeleteBlob(old)) }); err != nil {
			t.Fatal(err)
		}
		r = r.reopen(storage.Options{})
		stop := r.running()
		pass(storage.SweepGrace + time.Second)
		stop()
		r.check(true)
		r.wantServed("what is hosted", layer)
		r.wantAbsent("what is not", old)
	})
}

// TestWrongBytesOverUnfiled has wrong bytes pushed, and right ones, to the name of
// what was pushed before and has lost its row: the right ones that are there stay.
func TestWrongBytesOverUnfiled(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	d := r.push(gcApp, "a layer", nil)
	if err := r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteBlob(d) }); err != nil {
		t.Fatal(err)
	}
	r = r.reopen(storage.Options{})
	w, err := r.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("another"))
	if err == nil {
		err = w.Commit(t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindBlob}, storage.Cached)
	}
	closeIt(t, w)
	if !errors.Is(err, storage.ErrDigest) {
		t.Errorf("Commit of other bytes: %v", err)
	}
	if body, err := os.ReadFile(r.file(d)); string(body) != "a layer" {
		t.Errorf("the file holds %q, %v", body, err)
	}
	r.push(gcApp, "a layer", nil)
	r.wantServed("what was pushed again", d)
	r.wantUsage()
	if n := r.Usage().Stray; n != 0 {
		t.Errorf("%d bytes are counted as left by a crash", n)
	}
}
