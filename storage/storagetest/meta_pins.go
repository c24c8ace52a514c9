package storagetest

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func metaPins(t *testing.T, m storage.Meta) {
	pin := func(ref string, ds ...digest.Digest) storage.PinRow {
		return storage.PinRow{Reference: ref, Root: ds[0], Holds: ds, Created: noon}
	}
	a := pin("docker.io/library/redis:7", dig("a"), dig("shared"), dig512("l"))
	b := pin("docker.io/library/redis:7.2", dig("b"), dig("shared"))
	update(t, m, func(tx storage.Tx) error { return first(tx.PutPin(b), tx.PutPin(a), tx.PutPin(a)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Pin", a)(tx.Pin(a.Reference))
		checkAbsent[storage.PinRow](t, "Pin of another reference")(tx.Pin("docker.io/library/redis"))
		checkList(t, "Pins", tx.Pins, a, b)
		checkList(t, "PinsOf", pinsOf(tx, dig("shared")), a, b)
		checkList(t, "PinsOf sha512", pinsOf(tx, dig512("l")), a)
		checkList(t, "PinsOf none", pinsOf(tx, dig("none")))
		checkPinned(t, tx, map[digest.Digest]bool{
			dig("a"): true, dig("b"): true, dig("shared"): true, dig512("l"): true, dig("l"): false, dig("none"): false,
		})
		checkAllPinned(t, tx, dig("a"), dig("b"), dig("shared"), dig512("l"))
		return nil
	})
	a = pin(a.Reference, dig("a2"), dig("shared")) // it holds something else now
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutPin(a), tx.DeletePin(b.Reference), tx.DeletePin(b.Reference))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Pins after changes", tx.Pins, a)
		checkList(t, "PinsOf after changes", pinsOf(tx, dig("shared")), a)
		checkPinned(t, tx, map[digest.Digest]bool{
			dig("a"): false, dig("a2"): true, dig("b"): false, dig("shared"): true, dig512("l"): false,
		})
		checkAllPinned(t, tx, dig("a2"), dig("shared"))
		return nil
	})
}

func pinsOf(tx storage.Tx, d digest.Digest) func(func(storage.PinRow) error) error {
	return func(fn func(storage.PinRow) error) error { return tx.PinsOf(d, fn) }
}

func checkPinned(t *testing.T, tx storage.Tx, want map[digest.Digest]bool) {
	t.Helper()
	for d, want := range want {
		if got, err := tx.Pinned(d); got != want || err != nil {
			t.Errorf("Pinned %.16s: %t, %v, want %t", d, got, err, want)
		}
	}
}

func checkAllPinned(t *testing.T, tx storage.Tx, want ...digest.Digest) {
	t.Helper()
	slices.Sort(want) // as keys of both algorithms sort, too
	checkList(t, "AllPinned", tx.AllPinned, want...)
}

func metaBlocks(t *testing.T, m storage.Meta) {
	rows := []storage.BlockRow{
		{Digest: dig("1"), Reason: "CVE-2024-0001", Created: noon},
		{Digest: dig512("1"), Created: noon.Add(time.Hour)},
	}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutBlock(storage.BlockRow{Digest: dig("1")}), tx.PutBlock(rows[1]), tx.PutBlock(rows[0]))
	})
	check := func(want map[digest.Digest]bool, list ...storage.BlockRow) {
		t.Helper()
		view(t, m, func(tx storage.Tx) error {
			checkList(t, "Blocks", tx.Blocks, list...)
			for d, want := range want {
				if got, err := tx.Blocked(d); got != want || err != nil {
					t.Errorf("Blocked %.16s: %t, %v, want %t", d, got, err, want)
				}
			}
			return nil
		})
	}
	check(map[digest.Digest]bool{dig("1"): true, dig512("1"): true, dig("2"): false}, rows...)
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Block", rows[0])(tx.Block(dig("1")))
		checkAbsent[storage.BlockRow](t, "Block")(tx.Block(dig("2")))
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteBlock(dig("1")), tx.DeleteBlock(dig("1"))) })
	check(map[digest.Digest]bool{dig("1"): false, dig512("1"): true}, rows[1])
}

func metaHeat(t *testing.T, m storage.Meta) {
	at := noon.Truncate(time.Second)
	row := storage.HeatRow{Digest: dig("layer"), SpanSize: 4 << 20, Spans: []storage.SpanHeat{
		{}, {Reads: 1, Last: at}, {}, {Reads: 1<<32 - 1, Last: at.Add(1000 * time.Hour)}, {},
	}}
	other := storage.HeatRow{Digest: dig("layer"), SpanSize: 1 << 20, Spans: []storage.SpanHeat{}}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutHeat(storage.HeatRow{Digest: row.Digest, SpanSize: row.SpanSize}), tx.PutHeat(row), tx.PutHeat(other))
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Heat", row)(tx.Heat(row.Digest, row.SpanSize))
		checkRow(t, "Heat of no spans", other)(tx.Heat(other.Digest, other.SpanSize))
		checkAbsent[storage.HeatRow](t, "Heat at another span size")(tx.Heat(row.Digest, 2))
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return tx.DeleteLayer(row.Digest, row.SpanSize) })
	view(t, m, func(tx storage.Tx) error {
		checkAbsent[storage.HeatRow](t, "Heat of a deleted layer")(tx.Heat(row.Digest, row.SpanSize))
		checkRow(t, "Heat at another span size", other)(tx.Heat(other.Digest, other.SpanSize))
		return nil
	})
}

// metaAll goes through everything of a sort.
func metaAll(t *testing.T, m storage.Meta) {
	var manifests []storage.ManifestRow
	var layers []storage.LayerRow
	var referrers []storage.ReferrerRow
	for _, d := range append(byDigest(dig("1"), dig("2"), dig("3")), dig512("1")) {
		manifests = append(manifests, storage.ManifestRow{Digest: d, Size: 3, Manifest: oci.Manifest{MediaType: v1.MediaTypeImageIndex}})
		for _, span := range []int64{0, 1 << 20, 4 << 20} {
			layers = append(layers, storage.LayerRow{Digest: d, SpanSize: span, State: storage.LayerWanted})
		}
		for _, r := range byDigest(dig("r"), dig("s")) {
			referrers = append(referrers, storage.ReferrerRow{Subject: d, Descriptor: v1.Descriptor{Digest: r}})
		}
	}
	allRepos := []oci.Repo{repoA, repoB, repoC, repoD} // by upstream, then name
	update(t, m, func(tx storage.Tx) error {
		for i := len(manifests) - 1; i >= 0; i-- {
			if err := tx.PutManifest(manifests[i]); err != nil {
				return err
			}
		}
		for i := range layers {
			if err := tx.PutLayer(layers[i]); err != nil {
				return err
			}
		}
		for i := range referrers {
			if err := tx.PutReferrer(referrers[i]); err != nil {
				return err
			}
		}
		for _, repo := range allRepos {
			for _, tag := range []string{"", "1", "latest"} {
				if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: dig("1")}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Manifests", tx.Manifests, manifests...)
		checkList(t, "AllLayers", tx.AllLayers, layers...)
		checkList(t, "AllReferrers", tx.AllReferrers, referrers...)
		checkList(t, "TagRepos", tx.TagRepos, allRepos...)
		return nil
	})
}
