package storagetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func metaLayers(t *testing.T, m storage.Meta) {
	d := dig("layer")
	var want []storage.LayerRow
	for i, span := range []int64{0, 1 << 20, 4 << 20, 300 << 20} {
		row := storage.LayerRow{Digest: d, SpanSize: span, Size: int64(i), State: storage.LayerWanted}
		if i%2 == 1 {
			row = storage.LayerRow{
				Digest: d, SpanSize: span, Size: 1 << 35, State: storage.LayerIndexed, Reason: "r", ZTOC: dig("z"), ZTOCSize: 9,
				Spans: 10, DiffID: dig("diff"), Head: []byte{0, 255, 31, 139}, Built: noon, BuildTime: 3 * time.Second,
			}
		}
		want = append(want, row)
	}
	other := storage.LayerRow{Digest: dig512("layer"), SpanSize: 4 << 20, State: storage.LayerSkipped, Reason: "too large",
		Limits: &storage.Limits{MaxUncompressed: 1 << 40, MaxFiles: 2, MaxZTOC: 3}}
	update(t, m, func(tx storage.Tx) error {
		for _, row := range want {
			if err := tx.PutLayer(row); err != nil {
				return err
			}
		}
		return tx.PutLayer(other)
	})
	iterate := func(tx storage.Tx, d digest.Digest) func(func(storage.LayerRow) error) error {
		return func(fn func(storage.LayerRow) error) error { return tx.Layers(d, fn) }
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Layer", want[1])(tx.Layer(d, 1<<20))
		checkAbsent[storage.LayerRow](t, "Layer at another span size")(tx.Layer(d, 2<<20))
		checkAbsent[storage.LayerRow](t, "Layer of another digest")(tx.Layer(dig("none"), 1<<20))
		checkList(t, "Layers", iterate(tx, d), want...)
		checkList(t, "Layers, sha512", iterate(tx, other.Digest), other)
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteLayer(d, 0), tx.DeleteLayer(d, 0)) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Layers after delete", iterate(tx, d), want[1:]...)
		return nil
	})
}

func metaSpans(t *testing.T, m storage.Meta) {
	d := dig("layer")
	table := Bytes("table", 300000)
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutSpans(d, 1, table), tx.PutSpans(d, 2, []byte{}),
			tx.PutLayer(storage.LayerRow{Digest: d, SpanSize: 1}))
	})
	view(t, m, func(tx storage.Tx) error {
		got, err := tx.Spans(d, 1)
		if err != nil || !bytes.Equal(got, table) {
			t.Errorf("Spans: %d bytes, %v, want %d, or they differ", len(got), err, len(table))
		}
		got, err = tx.Spans(d, 2)
		if err != nil || len(got) != 0 {
			t.Errorf("Spans, an empty table: %d bytes, %v", len(got), err)
		}
		checkAbsent[[]byte](t, "Spans at another span size")(tx.Spans(d, 3))
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteLayer(d, 1), tx.DeleteLayer(d, 2)) })
	view(t, m, func(tx storage.Tx) error {
		checkAbsent[[]byte](t, "Spans of a deleted layer")(tx.Spans(d, 1))
		checkAbsent[[]byte](t, "Spans of a deleted layer without a row")(tx.Spans(d, 2))
		return nil
	})
}

func metaImages(t *testing.T, m storage.Meta) {
	image := func(n string, layers ...storage.ImageLayer) storage.ImageRow {
		return storage.ImageRow{
			Manifest: descriptor(n), Repos: []oci.Repo{repoA, repoD}, Layers: layers,
			Index: dig("index " + n), IndexSize: 5, Published: noon,
		}
	}
	shared := storage.ImageLayer{Descriptor: descriptor("shared"), SpanSize: 4 << 20}
	skipped := storage.ImageLayer{Descriptor: descriptor("skipped"), Skip: "small"}
	a, b := image("a", shared, skipped, shared), image("b", shared)
	if a.Manifest.Digest > b.Manifest.Digest {
		a, b = b, a
	}
	of := func(tx storage.Tx, d digest.Digest) func(func(storage.ImageRow) error) error {
		return func(fn func(storage.ImageRow) error) error { return tx.ImagesOf(d, fn) }
	}
	update(t, m, func(tx storage.Tx) error { return first(tx.PutImage(b), tx.PutImage(a), tx.PutImage(a)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Image", a)(tx.Image(a.Manifest.Digest))
		checkAbsent[storage.ImageRow](t, "Image")(tx.Image(dig("none")))
		checkList(t, "Images", tx.Images, a, b)
		checkList(t, "ImageDigests", tx.ImageDigests, a.Manifest.Digest, b.Manifest.Digest)
		checkList(t, "ImagesOf", of(tx, shared.Descriptor.Digest), a, b)
		checkList(t, "ImagesOf a skipped layer", of(tx, skipped.Descriptor.Digest))
		checkList(t, "ImagesOf none", of(tx, dig("none")))
		return nil
	})
	// another rule: other layers count, and the old ones are filed no more
	wasSkipped := skipped
	wasSkipped.SpanSize, wasSkipped.Skip = 1<<20, ""
	a.Layers = []storage.ImageLayer{wasSkipped}
	update(t, m, func(tx storage.Tx) error { return tx.PutImage(a) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "ImagesOf after a change", of(tx, shared.Descriptor.Digest), b)
		checkList(t, "ImagesOf what was skipped", of(tx, skipped.Descriptor.Digest), a)
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteImage(a.Manifest.Digest), tx.DeleteImage(a.Manifest.Digest))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Images after delete", tx.Images, b)
		checkList(t, "ImagesOf after delete", of(tx, skipped.Descriptor.Digest))
		return nil
	})
}

func metaJobs(t *testing.T, m storage.Meta) {
	job := func(n string, span int64, created time.Time) storage.JobRow {
		return storage.JobRow{
			Layer: oci.Layer{Repo: repoA, Descriptor: descriptor(n)}, SpanSize: span, Attempts: 2,
			NotBefore: noon, LastError: "no space", Created: created,
		}
	}
	urgent := job("urgent", 1, noon.Add(time.Hour))
	urgent.Priority = 1
	rows := []storage.JobRow{
		urgent,
		job("ancient", 1, time.Time{}),
		job("before 1970", 1, time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)),
		job("noon", 1, noon),
		job("just after", 1, noon.Add(1)),
		job("noon", 2, noon.Add(time.Second)), // the same layer at another span size
		job("far", 1, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	update(t, m, func(tx storage.Tx) error {
		for _, i := range []int{3, 0, 5, 1, 4, 2, 6} {
			if err := tx.PutJob(rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Job", rows[3])(tx.Job(dig("noon"), 1))
		checkAbsent[storage.JobRow](t, "Job at another span size")(tx.Job(dig("noon"), 3))
		checkList(t, "Jobs", tx.Jobs, rows...)
		return nil
	})
	younger := rows[1]
	younger.Created, younger.Attempts, younger.LastError = noon.Add(-time.Second), 3, ""
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutJob(younger), tx.DeleteJob(dig("far"), 1), tx.DeleteJob(dig("far"), 1))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Jobs after changes", tx.Jobs, rows[0], rows[2], younger, rows[3], rows[4], rows[5])
		return nil
	})
}
