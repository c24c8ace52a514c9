package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestCollectWhilePushing has clients push, mount, retag and delete while
// garbage is collected without any grace: whatever a push was told is there, is.
func TestCollectWhilePushing(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	c := storage.NewCollector(storage.CollectOptions{
		Store: r.Store, Hosted: []string{"local"}, Rules: []storage.Retention{{Repositories: []string{"local/**"}, Untagged: 1}},
	})
	ctx, stop := context.WithCancel(t.Context())
	var collector, clients sync.WaitGroup
	var runs int
	collector.Go(func() {
		for ctx.Err() == nil {
			r.pass(time.Second)
			if _, err := c.Collect(t.Context(), false, nil); err != nil {
				t.Error(err)
			}
			runs++
		}
	})
	type tagged struct {
		tag    string
		d      digest.Digest
		layers []digest.Digest
	}
	last := make([]tagged, 4)
	for n := range last {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(n)))
			for i := range 60 {
				var layers []digest.Digest
				for range 1 + rnd.IntN(3) {
					d, err := r.pushBlob(gcApp, fmt.Sprint("layer ", rnd.IntN(12))) // shared with the other clients
					if err != nil {
						t.Error(err)
					}
					layers = append(layers, d)
				}
				tag := fmt.Sprint("client", n)
				d, err := r.pushManifest(gcApp, fmt.Sprint("image ", n, i), tag, "", layers, nil)
				switch {
				case errors.Is(err, errMissing): // told so; it would push them again
				case err != nil:
					t.Error(err)
				default:
					last[n] = tagged{tag, d, layers}
					for _, d := range append(layers, d) {
						if _, err := r.Stat(t.Context(), d); err != nil {
							t.Errorf("client %d: %v, after its push was accepted", n, err)
						}
					}
				}
			}
		})
	}
	clients.Wait()
	stop()
	collector.Wait()
	r.pass(time.Hour)
	_, err := c.Collect(t.Context(), false, nil)
	r.must(err)
	if runs == 0 {
		t.Error("nothing was collected meanwhile")
	}
	var kept int
	for _, x := range last {
		if x.d == "" {
			continue
		}
		kept++
		r.check(gcApp, true, append(slices.Clone(x.layers), x.d)...)
	}
	if kept == 0 {
		t.Error("no push got through")
	}
	var rows int
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		rows = 0
		return tx.Blobs(func(row storage.BlobRow) error {
			if row.Kind == storage.KindManifest {
				rows++
			}
			return nil
		})
	}))
	if rows != kept {
		t.Errorf("%d manifests are left, want the %d that are tagged", rows, kept)
	}
}

// shaky fails updates on order, some after they were stored.
type shaky struct {
	storage.Meta
	rnd *rand.Rand
	on  bool
}

var errShaky = errors.New("no space left on device")

func (s *shaky) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if !s.on {
		return s.Meta.Update(ctx, fn)
	}
	switch s.rnd.IntN(4) {
	case 0:
		return errShaky
	case 1:
		return errors.Join(s.Meta.Update(ctx, fn), errShaky)
	}
	return s.Meta.Update(ctx, fn)
}

// TestCollectFaults: whatever fails half-way, nothing that is needed goes, and
// the next collection does the rest.
func TestCollectFaults(t *testing.T) {
	for seed := range uint64(8) {
		db, err := bolt.Open(t.TempDir()+"/meta.db", bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		meta := &shaky{Meta: db, rnd: rand.New(rand.NewPCG(seed, 0))}
		r := newRegistry(t, storage.Options{Meta: meta})
		shared := r.blob(gcApp, "shared")
		kept := r.image(gcApp, "kept", "1", "", shared)
		var gone []digest.Digest
		for i := range 150 {
			gone = append(gone, r.image(gcApp, fmt.Sprint("gone ", i), "", "", shared), digest.FromString(fmt.Sprint("layer of gone ", i)))
		}
		r.pass(100 * time.Hour)
		c := r.collector(storage.Retention{Repositories: []string{"local/app"}, Untagged: time.Hour})
		meta.on = true
		for range 4 {
			if _, err := c.Collect(t.Context(), false, nil); err != nil && !errors.Is(err, errShaky) {
				t.Fatal(err)
			}
			r.check(gcApp, true, kept, shared, digest.FromString("layer of kept"))
		}
		meta.on = false
		r.pass(100 * time.Hour)
		_, err = c.Collect(t.Context(), false, nil)
		r.must(err)
		r.check(gcApp, false, gone...)
		r.check(gcApp, true, kept, shared, digest.FromString("layer of kept"))
		report, err := r.Check(t.Context(), storage.CheckOptions{})
		if err != nil || report.Problems != 0 {
			t.Errorf("seed %d: check: %+v, %v", seed, report, err)
		}
	}
}

func TestCollectOneAtATime(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	c := r.collector()
	r.blob(gcApp, "garbage")
	r.pass(100 * time.Hour)
	_, err := c.Collect(t.Context(), false, func(storage.Collected) {
		if _, err := c.Collect(t.Context(), true, nil); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("a second collection: %v, want ErrBusy", err)
		}
	})
	r.must(err)
}

// TestCollectMany walks a store of 11,000 blobs in batches: no row of it is
// garbage, and none is kept in memory.
func TestCollectMany(t *testing.T) {
	db, err := bolt.Open(t.TempDir()+"/meta.db", bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	scale := storagetest.Scale{Images: 100, LayersPerImage: 8, SpansPerLayer: 100}
	storagetest.Generate(t, db, scale)
	r := newRegistry(t, storage.Options{Meta: db})
	report, err := r.collector().Collect(t.Context(), true, nil)
	r.must(err)
	if report.Manifests+report.Made+report.Blobs+report.Tags != 0 {
		t.Errorf("%+v, want nothing: all was pulled lately", report)
	}
	r.pass(1000 * time.Hour)
	report, err = r.collector().Collect(t.Context(), true, nil)
	r.must(err)
	if report.Manifests != scale.Images || report.Blobs != 0 {
		t.Errorf("%+v, want %d manifests", report, scale.Images)
	}
}
