package referrers

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// TestNewestPushed has one SOCI v1 index listed of several that were pushed for
// one subject: the one that was pushed last, by the API or under the fallback tag.
func TestNewestPushed(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	const none = -1 // the repository has no such row
	for _, c := range []struct {
		name   string
		pushed map[int]time.Duration // listed by the API, by their order, and when they came
		filed  map[int]time.Duration // likewise, under the fallback tag
		ours   int
		want   string
	}{
		{name: "the last is the highest", pushed: map[int]time.Duration{3: 0, 5: 1, 7: 2}, want: "00000007"},
		{name: "the last is the lowest", pushed: map[int]time.Duration{3: 2, 5: 1, 7: 0}, want: "00000003"},
		{name: "the last is in the middle", pushed: map[int]time.Duration{3: 1, 5: 2, 7: 0}, want: "00000005"},
		{name: "at the same moment", pushed: map[int]time.Duration{3: 0, 5: 1, 7: 1}, want: "00000005"},
		{name: "without a time", pushed: map[int]time.Duration{3: none, 5: 0}, want: "00000005"},
		{name: "filed later", pushed: map[int]time.Duration{3: 0}, filed: map[int]time.Duration{5: 1, 7: 2}, want: "00000007"},
		{name: "filed earlier", pushed: map[int]time.Duration{7: 2}, filed: map[int]time.Duration{3: 0, 5: 1}, want: "00000007"},
		{name: "in both", pushed: map[int]time.Duration{3: 0, 5: 1}, filed: map[int]time.Duration{3: 0, 5: 1}, want: "00000005"},
		{name: "filed alone", filed: map[int]time.Duration{3: 0, 5: 1}, want: "00000005"},
		{name: "filed at the same moment", pushed: map[int]time.Duration{5: 1}, filed: map[int]time.Duration{3: 1}, want: "00000003"},
		{name: "ours goes before", pushed: map[int]time.Duration{3: 1}, filed: map[int]time.Duration{5: 2}, ours: 9, want: "00000009"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := newStore(t)
			if c.ours != 0 {
				put(t, db, entry(c.ours, oci.MediaTypeSOCIIndexV1))
			}
			err := db.Update(t.Context(), func(tx storage.Tx) error {
				has := func(d v1.Descriptor, at time.Duration) error {
					if at == none {
						return nil
					}
					return tx.PutContent(storage.ContentRow{Repo: hostedRepo, Digest: d.Digest, Size: d.Size, Manifest: true, Pushed: noon.Add(at)})
				}
				// What another repository has, and when, is nobody's affair here.
				err := errors.Join(
					tx.PutRight(hostedRepo, subject),
					tx.PutReferrer(storage.ReferrerRow{Repo: hostedOther, Subject: subject, Descriptor: entry(1, oci.MediaTypeSOCIIndexV1)}),
					tx.PutContent(storage.ContentRow{Repo: hostedOther, Digest: entry(1, "").Digest, Pushed: noon.Add(time.Hour)}),
					tx.PutContent(storage.ContentRow{Repo: hostedOther, Digest: entry(3, "").Digest, Pushed: noon.Add(time.Hour)}),
					tx.PutReferrer(storage.ReferrerRow{Repo: hostedRepo, Subject: subject, Descriptor: entry(4, signature)}),
				)
				for order, at := range c.pushed {
					d := entry(order, oci.MediaTypeSOCIIndexV1)
					err = errors.Join(err, tx.PutReferrer(storage.ReferrerRow{Repo: hostedRepo, Subject: subject, Descriptor: d}), has(d, at))
				}
				index := storage.ManifestRow{Digest: digest.FromString("index"), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageIndex}}
				for order, at := range c.filed {
					d := entry(order, oci.MediaTypeSOCIIndexV1)
					index.Manifest.Manifests = append(index.Manifest.Manifests, d)
					err = errors.Join(err, has(d, at))
				}
				return errors.Join(err, tx.PutManifest(index),
					tx.PutTag(storage.TagRow{Repo: hostedRepo, Tag: upstream.ReferrersTag(subject), Digest: index.Digest}))
			})
			if err != nil {
				t.Fatal(err)
			}
			s := hosted(db)
			for target, want := range map[string][]string{
				target:                             {c.want, "00000004"},
				target + "?n=1":                    {c.want},
				filtered(oci.MediaTypeSOCIIndexV1): {c.want},
				filtered(signature):                {"00000004"},
				target + "?last=" + entry(1, "").Digest.String(): {"00000004"},
			} {
				if diff := cmp.Diff(want, digests(decode(t, getIn(t, s, hostedRepo, target)).Manifests)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", target, diff)
				}
			}
		})
	}
}
