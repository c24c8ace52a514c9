package storagetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// metaPushedReferrers has the same manifest refer to a subject in several
// repositories.
func metaPushedReferrers(t *testing.T, m storage.Meta) {
	subject := dig("subject")
	ds := byDigest(descriptor("a").Digest, descriptor("b").Digest)
	row := func(repo oci.Repo, d digest.Digest) storage.ReferrerRow {
		return storage.ReferrerRow{Repo: repo, Subject: subject, Descriptor: v1.Descriptor{Digest: d}}
	}
	rows := []storage.ReferrerRow{
		row(oci.Repo{}, ds[0]), row(repoA, ds[0]), row(repoB, ds[0]), row(oci.Repo{}, ds[1]), row(repoD, ds[1]),
	}
	rows[2].Orphaned = noon
	update(t, m, func(tx storage.Tx) error {
		for i := range rows {
			if err := tx.PutReferrer(rows[len(rows)-1-i]); err != nil {
				return err
			}
		}
		return tx.PutReferrer(storage.ReferrerRow{Repo: repoA, Subject: dig("other"), Descriptor: descriptor("a")})
	})
	all := func(tx storage.Tx) func(func(storage.ReferrerRow) error) error {
		return func(fn func(storage.ReferrerRow) error) error { return tx.Referrers(subject, fn) }
	}
	after := func(tx storage.Tx, last digest.Digest) func(func(storage.ReferrerRow) error) error {
		return func(fn func(storage.ReferrerRow) error) error { return tx.ReferrersAfter(subject, last, fn) }
	}
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Referrers", all(tx), rows...)
		checkList(t, "ReferrersAfter the first", after(tx, ds[0]), rows[3:]...)
		checkList(t, "ReferrersAfter the last", after(tx, ds[1]))
		checkRow(t, "Referrer", rows[2])(tx.Referrer(repoB, subject, ds[0]))
		checkAbsent[storage.ReferrerRow](t, "Referrer")(tx.Referrer(repoB, subject, ds[1]))
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteReferrerIn(repoA, subject, ds[0]), tx.DeleteReferrerIn(repoA, subject, ds[0]), tx.DeleteReferrerIn(oci.Repo{}, subject, ds[1]))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Referrers after deletes", all(tx), rows[0], rows[2], rows[4])
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return tx.DeleteReferrer(subject, ds[0]) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Referrers after one went everywhere", all(tx), rows[4])
		return nil
	})
}

func metaUpstreamReferrers(t *testing.T, m storage.Meta) {
	ds := byDigest(dig("1"), dig512("1"))
	row := func(repo oci.Repo, d digest.Digest) storage.UpstreamReferrersRow {
		return storage.UpstreamReferrersRow{Repo: repo, Subject: d, Referrers: []v1.Descriptor{descriptor("a")}, Checked: noon}
	}
	a, b, c := row(repoA, ds[0]), row(repoB, ds[0]), row(repoA, ds[1])
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutUpstreamReferrers(c), tx.PutUpstreamReferrers(b), tx.PutUpstreamReferrers(a))
	})
	b.Checked, b.Referrers = noon.Add(time.Hour), nil
	update(t, m, func(tx storage.Tx) error { return tx.PutUpstreamReferrers(b) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "UpstreamReferrers", b)(tx.UpstreamReferrers(repoB, ds[0]))
		checkAbsent[storage.UpstreamReferrersRow](t, "UpstreamReferrers")(tx.UpstreamReferrers(repoB, ds[1]))
		checkList(t, "AllUpstreamReferrers", tx.AllUpstreamReferrers, a, b, c)
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteUpstreamReferrers(repoA, ds[0]), tx.DeleteUpstreamReferrers(repoA, ds[0]))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "AllUpstreamReferrers after delete", tx.AllUpstreamReferrers, b, c)
		return nil
	})
}

// namingRow is a manifest that names ds as config, layers and, of an index,
// manifests.
func namingRow(n string, ds ...digest.Digest) storage.ManifestRow {
	row := storage.ManifestRow{Digest: dig(n), Manifest: oci.Manifest{Subject: &v1.Descriptor{Digest: dig("subject")}}}
	for i, d := range ds {
		switch i % 3 {
		case 0:
			row.Manifest.Config = &v1.Descriptor{Digest: d}
		case 1:
			row.Manifest.Layers = append(row.Manifest.Layers, v1.Descriptor{Digest: d}, v1.Descriptor{Digest: d})
		default:
			row.Manifest.Manifests = append(row.Manifest.Manifests, v1.Descriptor{Digest: d})
		}
	}
	return row
}

func metaNamedBy(t *testing.T, m storage.Meta) {
	one, two := namingRow("one", dig("config"), dig("layer"), dig512("child")), namingRow("two", dig("config2"), dig("layer"))
	by := func(tx storage.Tx, d digest.Digest) func(func(digest.Digest) error) error {
		return func(fn func(digest.Digest) error) error { return tx.NamedBy(d, fn) }
	}
	update(t, m, func(tx storage.Tx) error { return first(tx.PutManifest(one), tx.PutManifest(two), tx.PutManifest(one)) })
	ordered := byDigest(one.Digest, two.Digest)
	rows := map[digest.Digest]storage.ManifestRow{one.Digest: one, two.Digest: two}
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "NamedBy", by(tx, dig("layer")), ordered...)
		checkList(t, "NamedBy, config", by(tx, dig("config")), one.Digest)
		checkList(t, "NamedBy, manifest of an index", by(tx, dig512("child")), one.Digest)
		checkList(t, "NamedBy, subject", by(tx, dig("subject")))
		checkList(t, "ManifestsAfter", func(fn func(storage.ManifestRow) error) error {
			return tx.ManifestsAfter(ordered[0], fn)
		}, rows[ordered[1]])
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteManifest(one.Digest), tx.DeleteManifest(one.Digest), tx.DeleteManifest(dig("none")))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "NamedBy after delete", by(tx, dig("layer")), two.Digest)
		checkList(t, "NamedBy after delete, config", by(tx, dig("config")))
		return nil
	})
}

type tagOf struct {
	Repo oci.Repo
	Tag  string
}

func metaTagsOf(t *testing.T, m storage.Meta) {
	d, e := dig("1"), dig("2")
	of := func(tx storage.Tx, d digest.Digest) func(func(tagOf) error) error {
		return func(fn func(tagOf) error) error {
			return tx.TagsOf(d, func(repo oci.Repo, tag string) error { return fn(tagOf{repo, tag}) })
		}
	}
	put := func(repo oci.Repo, tag string, d digest.Digest) func(storage.Tx) error {
		return func(tx storage.Tx) error {
			return tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: d, Checked: noon})
		}
	}
	update(t, m, put(repoD, "a", d))
	update(t, m, put(repoA, "b", d))
	update(t, m, put(repoA, "a", d))
	update(t, m, put(repoA, "a", d))
	update(t, m, put(repoB, "moves", d))
	update(t, m, put(repoB, "moves", e))
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "TagsOf", of(tx, d), tagOf{repoA, "a"}, tagOf{repoA, "b"}, tagOf{repoD, "a"})
		checkList(t, "TagsOf, moved", of(tx, e), tagOf{repoB, "moves"})
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteTag(repoA, "b"), tx.DeleteTag(repoA, "b"), tx.DeleteTag(repoA, "none"))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "TagsOf after delete", of(tx, d), tagOf{repoA, "a"}, tagOf{repoD, "a"})
		return nil
	})
}

func metaEvents(t *testing.T, m storage.Meta) {
	add := func(endpoint string, bodies ...string) {
		update(t, m, func(tx storage.Tx) error {
			for _, b := range bodies {
				if err := tx.AddEvent(endpoint, []byte(b)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	events := func(tx storage.Tx, endpoint string, after uint64) []storage.EventRow {
		rows, err := list(func(fn func(storage.EventRow) error) error { return tx.Events(endpoint, after, fn) })
		if err != nil {
			t.Errorf("Events: %v", err)
		}
		return rows
	}
	bodies := func(rows []storage.EventRow) (s string) {
		for i, r := range rows {
			if i > 0 && r.Number <= rows[i-1].Number {
				t.Errorf("event %d stands behind %d", r.Number, rows[i-1].Number)
			}
			s += string(r.Body)
		}
		return s
	}
	add("a", "1", "2")
	add("a-longer", "x")
	add("a", "3", "4")
	var second uint64
	view(t, m, func(tx storage.Tx) error {
		rows := events(tx, "a", 0)
		if got := bodies(rows); got != "1234" {
			t.Fatalf("events %q, want 1234", got)
		}
		second = rows[1].Number
		if got := bodies(events(tx, "a", second)); got != "34" {
			t.Errorf("events after the second: %q, want 34", got)
		}
		checkList(t, "EventEndpoints", tx.EventEndpoints, "a", "a-longer")
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteEvents("a", second), tx.DeleteEvents("none", second)) })
	add("a", "5")
	view(t, m, func(tx storage.Tx) error {
		if got := bodies(events(tx, "a", 0)); got != "345" {
			t.Errorf("events after a delete: %q, want 345", got)
		}
		if got := bodies(events(tx, "a-longer", 0)); got != "x" {
			t.Errorf("events of the other endpoint: %q, want x", got)
		}
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteEvents("a", 1<<63), tx.DeleteEvents("a-longer", 1<<63))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "EventEndpoints, all taken", tx.EventEndpoints)
		return nil
	})
	add("a", "6")
	view(t, m, func(tx storage.Tx) error {
		if rows := events(tx, "a", second); bodies(rows) != "6" {
			t.Errorf("an event after all were taken: %v, want one with a higher number", rows)
		}
		return nil
	})
}
