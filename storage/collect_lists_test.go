package storage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// fallbackTag is the tag under which clients list d's referrers where there is
// no other way.
func fallbackTag(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) }

// TestCollectFallbackTag deletes a manifest whose referrers are listed under a
// tag: the tag, its index and the referrers go in one collection, and nothing
// that is about another manifest, or also has a name of its own.
func TestCollectFallbackTag(t *testing.T) {
	for _, untagged := range []bool{false, true} { // how the subject goes
		t.Run(fmt.Sprint("by retention ", untagged), func(t *testing.T) {
			r := newRegistry(t, storage.Options{})
			list := func(subject digest.Digest, name string, of ...digest.Digest) digest.Digest {
				d, err := r.pushManifest(gcApp, "list "+name, fallbackTag(subject), "", nil, of)
				r.must(err)
				return d
			}
			subject := r.image(gcApp, "subject", "1", "")
			signature, sbom := r.image(gcApp, "signature", "", subject), r.image(gcApp, "sbom", "named", subject)
			gone := list(subject, "gone", signature, sbom)
			other := r.image(gcApp, "other", "2", "")
			ofOther := r.image(gcApp, "signature of other", "", other)
			never := digest.FromString("never pushed")
			ofNever := r.image(gcApp, "of what never was", "", never)
			kept := []digest.Digest{other, ofOther, list(other, "other", ofOther), ofNever, list(never, "never", ofNever)}
			r.pass(100 * time.Hour)
			rule := storage.Retention{Repositories: []string{"local/app"}, Untagged: 50 * time.Hour}
			r.collect(r.collector(rule))
			r.check(gcApp, true, append([]digest.Digest{subject, signature, sbom, gone}, kept...)...)
			r.pass(100 * time.Hour) // they were read
			r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(gcApp, "1") }))
			if !untagged {
				r.remove(gcApp, subject)
			}
			r.collect(r.collector(rule))
			r.check(gcApp, false, subject, signature, gone)
			r.check(gcApp, true, append(kept, sbom)...)
			var tags []string
			r.must(r.View(t.Context(), func(tx storage.Tx) error {
				tags = nil
				return tx.Tags(gcApp, "", func(row storage.TagRow) error { tags = append(tags, row.Tag); return nil })
			}))
			if all := strings.Join(tags, " "); strings.Contains(all, fallbackTag(subject)) || len(tags) != 4 {
				t.Errorf("tags %s", all)
			}
		})
	}
}

// TestCollectIndexAtOnce has an index of indexes lose its tag: all that is below
// it goes in one collection, bytes too.
func TestCollectIndexAtOnce(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	var below, all []digest.Digest
	for i := range 3 {
		d := r.image(gcApp, fmt.Sprint("image ", i), "", "")
		below, all = append(below, d), append(all, d, digest.FromString(fmt.Sprint("layer of image ", i)))
	}
	for level := range 4 {
		d, err := r.pushManifest(gcApp, fmt.Sprint("index ", level), "", "", nil, below)
		r.must(err)
		below, all = []digest.Digest{d}, append(all, d)
	}
	top, err := r.pushManifest(gcApp, "top", "1", "", nil, below)
	r.must(err)
	r.pass(100 * time.Hour)
	rule := storage.Retention{Repositories: []string{"local/app"}, Untagged: time.Hour}
	r.collect(r.collector(rule))
	r.check(gcApp, true, append(all, top)...)
	r.pass(100 * time.Hour) // they were read
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(gcApp, "1") }))
	_, report := r.collect(r.collector(rule))
	r.check(gcApp, false, append(all, top)...)
	if left := r.Usage().Total(); left != 0 || report.Freed == 0 {
		t.Errorf("%d bytes are left, after %+v", left, report)
	}
}

// TestCollectManyTags has more tags than are read at once.
func TestCollectManyTags(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	d := r.image(gcApp, "image", "", "")
	const n = 2500
	r.must(r.Update(t.Context(), func(tx storage.Tx) error {
		for i := range n { // the last in time is not the last by name
			row := storage.TagRow{Repo: gcApp, Tag: fmt.Sprintf("t%04d", i), Digest: d, Checked: r.clock().Add(-time.Duration(i) * time.Hour)}
			if err := tx.PutTag(row); err != nil {
				return err
			}
		}
		return nil
	}))
	r.pass(2 * grace)
	_, report := r.collect(r.collector(storage.Retention{Repositories: []string{"local/app"}, KeepLast: 3, KeepTags: []string{"t2499"}}))
	var tags []string
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		tags = nil
		return tx.Tags(gcApp, "", func(row storage.TagRow) error { tags = append(tags, row.Tag); return nil })
	}))
	if got := strings.Join(tags, " "); got != "t0000 t0001 t0002 t2499" || report.Tags != n-4 {
		t.Errorf("%s stay, after %+v", got, report)
	}
}
