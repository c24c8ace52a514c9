package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// file is where d's bytes are.
func (r *rig) file(d digest.Digest) string {
	return filepath.Join(r.dir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func (r *rig) quarantined() (names []string) {
	r.t.Helper()
	list, err := os.ReadDir(filepath.Join(r.dir, "quarantine"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Error(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// check runs a check and gives what it found, as kind and digest.
func (r *rig) check(repair bool) (found []string, report storage.CheckReport) {
	r.t.Helper()
	var left int64
	report, err := r.Check(r.t.Context(), storage.CheckOptions{Repair: repair, Found: func(p storage.Problem) {
		found = append(found, fmt.Sprintf("%s %s", p.Kind, p.Digest))
		if p.Leftover {
			left++
		}
		if p.Repaired != repair || p.Detail == "" {
			r.t.Errorf("%+v, want repaired %t and some detail", p, repair)
		}
	}})
	if err != nil {
		r.t.Errorf("Check: %v", err)
	}
	if report.Leftovers != left || report.Problems+left != int64(len(found)) || repair && report.Repaired != report.Problems || !repair && report.Repaired != 0 {
		r.t.Errorf("report %+v of %d problems", report, len(found))
	}
	slices.Sort(found)
	return found, report
}

// stock is a store with one thing of each kind.
type stock struct {
	*rig
	layer                         *storagetest.Layer
	image, index, blob, span, old digest.Digest
}

func newStock(t *testing.T, layer *storagetest.Layer) *stock {
	r := &stock{rig: newRig(t, t.TempDir(), nil, storage.Options{}), layer: layer}
	r.layer.Store(t, r.Store)
	r.blob = r.mustPut(kb("blob", 300), storage.KindBlob, storage.Durable)
	r.old = r.mustPut(kb("old", 10), storage.KindBlob, storage.Durable)
	r.image = r.putManifest("image", []digest.Digest{r.blob, r.layer.Digest()}, nil)
	index := []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.amazon.soci.index.v1+json","digest":"` +
		r.blob.String() + `","size":2},"layers":[]}`)
	r.index = digest.FromBytes(index)
	err := r.Put(t.Context(), storage.BlobRow{Digest: r.index, Kind: storage.KindIndex, Of: r.image}, index, func(tx storage.Tx) error {
		return errors.Join(
			tx.PutManifest(storage.ManifestRow{Digest: r.index, Size: int64(len(index))}),
			tx.PutReferrer(storage.ReferrerRow{Subject: r.image, Descriptor: v1.Descriptor{Digest: r.index}}),
			tx.PutImage(storage.ImageRow{
				Manifest: v1.Descriptor{Digest: r.image}, Index: r.index, IndexSize: 5, Published: noon,
				Layers: []storage.ImageLayer{{Descriptor: v1.Descriptor{Digest: r.layer.Digest()}, SpanSize: spanSize}},
			}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	sp := r.layer.Table.Span(2)
	r.span = sp.Digest
	row := storage.BlobRow{Digest: sp.Digest, Kind: storage.KindSpan, Of: r.layer.Digest()}
	if err := r.Put(t.Context(), row, r.layer.Body[sp.Off:sp.End], nil); err != nil {
		t.Fatal(err)
	}
	p := r.openPartial(digest.FromString("part"))
	writeAt(t, p, kb("part", 20), ranges(0, 20_000)...)
	if err := p.Checkpoint(t.Context(), -1, ranges(0, 20_000)); err != nil {
		t.Fatal(err)
	}
	closeIt(t, p)
	return r
}

func (r *stock) update(fn func(tx storage.Tx) error) {
	r.t.Helper()
	if err := r.Update(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

func stockLayer(t *testing.T) *storagetest.Layer {
	return storagetest.NewLayer(t, "layer", 400_000, spanSize)
}

func TestCheck(t *testing.T) {
	layer, other := stockLayer(t), storagetest.NewLayer(t, "other", 300_000, spanSize)
	cutShort := func(file string) error { return errors.Join(os.Chmod(file, 0o600), os.Truncate(file, 99)) }
	for _, c := range []struct {
		name   string
		damage func(r *stock)
		want   func(r *stock) []string
		absent func(r *stock) []digest.Digest // served no more, at once
		aside  int                            // files in quarantine after the repair
		more   bool                           // other things are wrong in consequence
	}{
		{name: "nothing", damage: func(*stock) {}},
		{
			name: "a bit of a blob", damage: func(r *stock) { r.rot(r.blob, 12345) },
			want:   func(r *stock) []string { return []string{"corrupt " + r.blob.String()} },
			absent: func(r *stock) []digest.Digest { return []digest.Digest{r.blob} }, aside: 1,
		},
		{
			name: "a blob cut short", damage: func(r *stock) {
				if err := cutShort(r.file(r.blob)); err != nil {
					r.t.Fatal(err)
				}
			},
			want:   func(r *stock) []string { return []string{"corrupt " + r.blob.String()} },
			absent: func(r *stock) []digest.Digest { return []digest.Digest{r.blob} }, aside: 1,
		},
		{
			name: "a file gone", damage: func(r *stock) {
				if err := os.Remove(r.file(r.span)); err != nil {
					r.t.Fatal(err)
				}
			},
			want:   func(r *stock) []string { return []string{"missing " + r.span.String()} },
			absent: func(r *stock) []digest.Digest { return []digest.Digest{r.span} },
		},
		{
			name: "a zTOC", damage: func(r *stock) { r.rot(r.layer.Row.ZTOC, 5000) },
			want:   func(r *stock) []string { return []string{"corrupt " + r.layer.Row.ZTOC.String()} },
			absent: func(r *stock) []digest.Digest { return []digest.Digest{r.layer.Row.ZTOC} }, aside: 1, more: true,
		},
		{
			name: "an index", damage: func(r *stock) { r.rot(r.index, 3) },
			want:   func(r *stock) []string { return []string{"corrupt " + r.index.String()} },
			absent: func(r *stock) []digest.Digest { return []digest.Digest{r.index} }, aside: 1, more: true,
		},
		{
			name: "a row of a zTOC's blob", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error { return tx.DeleteBlob(r.layer.Row.ZTOC) })
			},
			want: func(r *stock) []string { return []string{"unfiled " + r.layer.Row.ZTOC.String()} }, more: true,
		},
		{
			name: "rows of a blob, a span, an index and a manifest", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error {
					return errors.Join(tx.DeleteBlob(r.blob), tx.DeleteBlob(r.span), tx.DeleteBlob(r.index),
						tx.DeleteBlob(r.image), tx.DeleteManifest(r.image))
				})
			},
			want: func(r *stock) []string {
				return []string{"unfiled " + r.blob.String(), "unfiled " + r.span.String(), "unfiled " + r.index.String(), "unfiled " + r.image.String()}
			},
			more: true,
		},
		{
			name: "garbage", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error { return tx.DeleteBlob(r.old) })
				r.rot(r.old, 5)
			},
			want: func(r *stock) []string { return []string{"garbage " + r.old.String()} }, aside: 1,
		},
		{
			name: "a span table", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error {
					table, err := other.Table.MarshalBinary()
					return errors.Join(err, tx.PutSpans(r.layer.Digest(), spanSize, table))
				})
			},
			want: func(r *stock) []string { return []string{"spans " + r.layer.Digest().String()} },
		},
		{
			name: "no zTOC at all", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error {
					row := r.layer.Row
					row.ZTOC = digest.FromString("another")
					return tx.PutLayer(row)
				})
			},
			want: func(r *stock) []string { return []string{"ztoc " + r.layer.Digest().String()} },
		},
		{
			name: "a partial cut short", damage: func(r *stock) {
				if err := os.Truncate(filepath.Join(r.dir, "partial", digest.FromString("part").String()), 7); err != nil {
					r.t.Fatal(err)
				}
			},
			want: func(*stock) []string { return []string{"partial " + digest.FromString("part").String()} },
		},
		{
			name: "a partial's row", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error { return tx.DeletePartial(digest.FromString("part")) })
			},
			want: func(*stock) []string { return []string{"leftover " + digest.FromString("part").String()} }, more: true,
		},
		{
			name: "the image's list", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error { return tx.DeleteReferrer(r.image, r.index) })
			},
			want: func(r *stock) []string { return []string{"image " + r.image.String()} },
		},
		{
			name: "a list of nothing", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error {
					return tx.PutReferrer(storage.ReferrerRow{Subject: r.image, Descriptor: v1.Descriptor{Digest: digest.FromString("gone")}})
				})
			},
			want: func(*stock) []string { return []string{"referrer " + digest.FromString("gone").String()} },
		},
		{
			name: "a manifest of nothing", damage: func(r *stock) {
				r.update(func(tx storage.Tx) error {
					return tx.PutManifest(storage.ManifestRow{Digest: digest.FromString("gone")})
				})
			},
			want: func(*stock) []string { return []string{"manifest " + digest.FromString("gone").String()} },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []string
			r := newStock(t, layer)
			c.damage(r)
			r.rig = r.reopen(storage.Options{})
			if c.want != nil {
				want = c.want(r)
			}
			slices.Sort(want)
			found, report := r.check(false)
			if missing := without(want, found); len(missing) > 0 || !c.more && len(found) != len(want) {
				t.Errorf("found %v, want %v", found, want)
			}
			if report.Blobs < 6 || report.Bytes < 700_000 || report.Layers != 1 && c.name == "nothing" {
				t.Errorf("report %+v: it did not read much", report)
			}
			if c.absent != nil {
				for _, d := range c.absent(r) {
					if _, err := r.read(d); !errors.Is(err, storage.ErrNotFound) {
						t.Errorf("what is wrong is served: %v", err)
					}
				}
			}

			r = newStock(t, layer)
			c.damage(r)
			r.rig = r.reopen(storage.Options{})
			found, _ = r.check(true)
			if len(without(want, found)) > 0 {
				t.Errorf("repairing, found %v, want %v", found, want)
			}
			if got := r.quarantined(); len(got) != c.aside {
				t.Errorf("%v are in quarantine, want %d files", got, c.aside)
			}
			r.wantUsage()
			r.rig = r.reopen(storage.Options{})
			if found, _ := r.check(false); len(found) > 0 {
				t.Errorf("after the repair there is still %v", found)
			}
			r.wantSound(map[digest.Digest][]byte{digest.FromString("part"): kb("part", 20)})
			r.wantNoGarbage()
		})
	}
}

func without(want, found []string) (missing []string) {
	for _, w := range want {
		if !slices.Contains(found, w) {
			missing = append(missing, w)
		}
	}
	return missing
}

// TestCheckGivesRows names what has none by what its neighbours say.
func TestCheckGivesRows(t *testing.T) {
	layer := stockLayer(t)
	r := newStock(t, layer)
	before := map[digest.Digest]storage.BlobRow{}
	for _, d := range []digest.Digest{r.blob, r.span, r.index, r.image, r.layer.Row.ZTOC, r.layer.Digest()} {
		row, err := r.row(d)
		if err != nil {
			t.Fatal(err)
		}
		before[d] = row
		r.update(func(tx storage.Tx) error { return tx.DeleteBlob(d) })
	}
	r.rig = r.reopen(storage.Options{})
	r.check(true)
	for d, want := range before {
		got, err := r.row(d)
		if err != nil || got.Kind != want.Kind || got.Of != want.Of || got.Size != want.Size {
			t.Errorf("row %+v, %v, want that of %+v", got, err, want)
		}
		r.wantServed(string(want.Kind), d)
	}
	r.wantUsage()
}

// TestCheckHeals has a reader come for what a check found wrong and left alone:
// it is stored anew.
func TestCheckHeals(t *testing.T) {
	layer := stockLayer(t)
	for _, dur := range []storage.Durability{storage.Cached, storage.Durable} {
		r := newStock(t, layer)
		r.rot(r.blob, 1)
		r.check(false)
		r.mustPut(kb("blob", 300), storage.KindBlob, dur)
		r.wantServed("what came again", r.blob)
		if err := r.Flush(t.Context()); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if found, _ := r.check(false); len(found) > 0 {
			t.Errorf("there is still %v", found)
		}
		r.wantUsage()
	}
}
