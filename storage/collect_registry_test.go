package storage_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

var (
	gcApp   = oci.Repo{Upstream: "local", Name: "app"}
	gcOther = oci.Repo{Upstream: "local", Name: "other"}
)

// registry is a store that images are pushed to, with a clock of its own.
type registry struct {
	*storage.Store
	t   *testing.T
	now atomic.Int64
}

func newRegistry(t *testing.T, o storage.Options) *registry {
	r := &registry{t: t}
	r.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	o.Now = r.clock
	r.Store = storagetest.Start(t, t.TempDir(), o)
	return r
}

func (r *registry) clock() time.Time     { return time.Unix(0, r.now.Load()).UTC() }
func (r *registry) pass(d time.Duration) { r.now.Add(int64(d)) }
func (r *registry) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

var errMissing = errors.New("the manifest names what is not here")

// pushBlob is what a finished upload comes to.
func (r *registry) pushBlob(repo oci.Repo, body string) (digest.Digest, error) {
	d := digest.FromString(body)
	return d, r.Put(r.t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindHosted}, []byte(body), func(tx storage.Tx) error {
		return tx.PutContent(storage.ContentRow{Repo: repo, Digest: d, Size: int64(len(body)), Pushed: r.clock()})
	})
}

// pushManifest is what a manifest PUT comes to: errMissing where repo does not
// have all that it names.
func (r *registry) pushManifest(repo oci.Repo, name, tag string, subject digest.Digest, layers, manifests []digest.Digest) (digest.Digest, error) {
	body := []byte(name)
	row := storage.ManifestRow{Digest: digest.FromBytes(body), Size: int64(len(body)), Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest}}
	for _, d := range layers {
		row.Manifest.Layers = append(row.Manifest.Layers, v1.Descriptor{Digest: d})
	}
	for _, d := range manifests {
		row.Manifest.Manifests = append(row.Manifest.Manifests, v1.Descriptor{Digest: d})
	}
	if subject != "" {
		row.Manifest.Subject = &v1.Descriptor{Digest: subject}
	}
	return row.Digest, r.Put(r.t.Context(), storage.BlobRow{Digest: row.Digest, Kind: storage.KindManifest}, body, func(tx storage.Tx) error {
		for _, d := range storage.Named(&row.Manifest) {
			has, err := tx.HasRight(repo, d)
			if err == nil {
				_, err = tx.Blob(d)
			}
			if errors.Is(err, storage.ErrNotFound) || err == nil && !has {
				return errMissing
			}
			if err != nil {
				return err
			}
		}
		err := errors.Join(tx.PutManifest(row),
			tx.PutContent(storage.ContentRow{Repo: repo, Digest: row.Digest, Size: row.Size, Manifest: true, Pushed: r.clock()}))
		if subject != "" {
			err = errors.Join(err, tx.PutReferrer(storage.ReferrerRow{Repo: repo, Subject: subject, Descriptor: v1.Descriptor{Digest: row.Digest}}))
		}
		if tag != "" {
			err = errors.Join(err, tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: row.Digest, Checked: r.clock()}))
		}
		return err
	})
}

func (r *registry) blob(repo oci.Repo, body string) digest.Digest {
	r.t.Helper()
	d, err := r.pushBlob(repo, body)
	r.must(err)
	return d
}

// image pushes a manifest of one layer each of its own.
func (r *registry) image(repo oci.Repo, name, tag string, subject digest.Digest, more ...digest.Digest) digest.Digest {
	r.t.Helper()
	d, err := r.pushManifest(repo, name, tag, subject, append([]digest.Digest{r.blob(repo, "layer of "+name)}, more...), nil)
	r.must(err)
	return d
}

// remove is what a DELETE comes to.
func (r *registry) remove(repo oci.Repo, d digest.Digest) {
	r.t.Helper()
	r.must(r.Update(r.t.Context(), func(tx storage.Tx) error {
		row, err := tx.Content(repo, d)
		if err != nil {
			return err
		}
		return storage.DropContent(tx, row, r.clock())
	}))
}

const grace = time.Hour

func (r *registry) collector(rules ...storage.Retention) *storage.Collector {
	return storage.NewCollector(storage.CollectOptions{
		Store: r.Store, Hosted: []string{"local"}, Rules: rules, Grace: grace, Pulled: 48 * time.Hour, Uploads: 24 * time.Hour,
		Immutable: func(_ oci.Repo, tag string) bool { return strings.HasPrefix(tag, "immutable") },
	})
}

// collect runs a collection, after a dry run that has to say the same.
func (r *registry) collect(c *storage.Collector) (list []storage.Collected, report storage.CollectReport) {
	r.t.Helper()
	var dry []storage.Collected
	forecast, err := c.Collect(r.t.Context(), true, func(x storage.Collected) { dry = append(dry, x) })
	r.must(err)
	report, err = c.Collect(r.t.Context(), false, func(x storage.Collected) { list = append(list, x) })
	r.must(err)
	key := func(a, b storage.Collected) int {
		return strings.Compare(a.What+a.Repo+a.Tag+a.Digest.String()+a.Upload, b.What+b.Repo+b.Tag+b.Digest.String()+b.Upload)
	}
	slices.SortFunc(dry, key)
	slices.SortFunc(list, key)
	if diff := cmp.Diff(dry, list); diff != "" {
		r.t.Errorf("dry run and collection differ (-dry +real):\n%s", diff)
	}
	if forecast.Freed != report.Freed || !forecast.DryRun || report.DryRun {
		r.t.Errorf("dry run %+v, collection %+v", forecast, report)
	}
	return list, report
}

// here reports whether repo has d and its bytes can be read.
func (r *registry) here(repo oci.Repo, d digest.Digest) bool {
	r.t.Helper()
	has := false
	r.must(r.View(r.t.Context(), func(tx storage.Tx) (err error) {
		has, err = tx.HasRight(repo, d)
		return err
	}))
	b, err := r.Open(r.t.Context(), d)
	if errors.Is(err, storage.ErrNotFound) {
		return false
	}
	r.must(err)
	r.must(b.Close())
	return has
}

func (r *registry) check(repo oci.Repo, want bool, ds ...digest.Digest) {
	r.t.Helper()
	for i, d := range ds {
		if got := r.here(repo, d); got != want {
			r.t.Errorf("number %d of %s: here %t, want %t", i, repo, got, want)
		}
	}
}
