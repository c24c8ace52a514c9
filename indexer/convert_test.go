package indexer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// supply is an upstream, and the proxy's way to have things stored.
type supply struct {
	mu    sync.Mutex
	w     *world
	from  layout
	types map[digest.Digest]string
	gone  map[digest.Digest]bool
	tags  map[string]digest.Digest
	asked []digest.Digest // blobs
	fault error
}

func newSupply(from layout) *supply {
	return &supply{from: from, types: map[digest.Digest]string{}, gone: map[digest.Digest]bool{}, tags: map[string]digest.Digest{}}
}

func (s *supply) ResolveTag(_ context.Context, _ oci.Repo, tag string) (digest.Digest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.tags[tag]; ok {
		return d, nil
	}
	return "", storage.ErrNotFound
}

func (s *supply) FetchManifest(ctx context.Context, repo oci.Repo, d digest.Digest) error {
	s.mu.Lock()
	gone, fault := s.gone[d], s.fault
	s.mu.Unlock()
	if fault != nil {
		return fault
	}
	if gone {
		return fmt.Errorf("manifest %s: %w", d, storage.ErrNotFound)
	}
	body := s.from.blob(d)
	m, err := oci.ParseManifest(body, s.types[d])
	if err != nil {
		return err
	}
	row := storage.ManifestRow{Digest: d, Size: int64(len(body)), Manifest: *m}
	err = s.w.store.Put(ctx, storage.BlobRow{Digest: d, Kind: storage.KindManifest, Accessed: s.w.x.now()}, body, func(tx storage.Tx) error {
		return errors.Join(tx.PutManifest(row), tx.PutRight(repo, d))
	})
	if err != nil {
		return err
	}
	return s.w.x.Manifest(ctx, repo, row)
}

func (s *supply) FetchBlob(ctx context.Context, _ oci.Repo, d v1.Descriptor) error {
	s.mu.Lock()
	s.asked = append(s.asked, d.Digest)
	s.mu.Unlock()
	w, err := s.w.store.Create(ctx)
	if err == nil {
		_, err = w.Write(s.from.blob(d.Digest))
		err = errors.Join(err, w.Commit(ctx, storage.BlobRow{Digest: d.Digest, Kind: storage.KindBlob}, storage.Durable), w.Close())
	}
	return err
}

func (s *supply) OpenBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor) (io.ReadCloser, error) {
	if err := s.FetchBlob(ctx, repo, d); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(s.from.blob(d.Digest))), nil
}

// tagged is the image of a layout as a client pulls it by a tag.
func (s *supply) pull(t *testing.T, tag string, platforms ...string) digest.Digest {
	t.Helper()
	src := s.from.source()
	s.types[src.Descriptor.Digest] = src.Descriptor.MediaType
	index, err := src.index()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		s.types[d.Digest] = d.MediaType
	}
	s.putTag(t, tag, src.Descriptor.Digest)
	s.w.check("pull", s.FetchManifest(t.Context(), redis, src.Descriptor.Digest))
	for _, d := range index.Manifests {
		if !slices.Contains(platforms, platformName(d.Platform)) {
			continue
		}
		s.w.check("pull", s.FetchManifest(t.Context(), redis, d.Digest))
		for _, l := range parseImage(t, s.from.blob(d.Digest), d.MediaType).manifest.Layers {
			s.w.whole(s.from.blob(l.Digest))
		}
	}
	return src.Descriptor.Digest
}

func (s *supply) putTag(t *testing.T, tag string, d digest.Digest) {
	t.Helper()
	s.mu.Lock()
	s.tags[tag] = d
	s.mu.Unlock()
	s.w.check("tag", s.w.store.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutTag(storage.TagRow{Repo: redis, Tag: tag, Digest: d})
	}))
}

func (w *world) conversion(source digest.Digest) (row storage.ConversionRow, ok bool) {
	w.t.Helper()
	w.view(func(tx storage.Tx) (err error) {
		row, err = tx.Conversion(source, redis)
		ok = err == nil
		return ignoreNotFound(err)
	})
	return row, ok
}

func (w *world) convertedTag(tag string) (d digest.Digest) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		row, err := tx.ConvertedTag(redis, tag)
		d = row.Index
		return ignoreNotFound(err)
	})
	return d
}

// startSupplied runs an Indexer with the image of a layout at its upstream.
func startSupplied(t *testing.T, dir, image string, rule Rule) (*world, *supply) {
	t.Helper()
	s := newSupply(layout{t, filepath.Join("testdata/images", image, "before")})
	w := start(t, dir, Options{Rules: []Rule{rule}, Fetch: s}, nil)
	s.w = w
	return w, s
}

// TestConverts: an image that was pulled is converted as `soci convert` does,
// with the same settings, whatever was here and in which order it came.
func TestConverts(t *testing.T) {
	for _, c := range readConversions(t) {
		if strings.Contains(c.options, "xattr") || strings.Contains(c.options, "prefetch") {
			continue
		}
		t.Run(c.image+" "+c.options, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				rule := Rule{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: c.spanSize}
				pulled := c.indexes
				if one, ok := strings.CutPrefix(c.options, "--platform "); ok {
					rule.Platforms = []string{one}
					pulled = nil // the rule alone has it fetched
				}
				w, s := startSupplied(t, t.TempDir(), c.image, rule)
				source := s.pull(t, "7", pulled...)
				w.settle()
				if rule.Platforms != nil { // as the first pull of anything by a client
					w.check("image", w.x.Image(t.Context(), redis, oci.Reference{Tag: "7"}, nil))
				}
				w.settle()
				row, ok := w.conversion(source)
				if c.index == "" {
					if ok {
						t.Errorf("converted to %+v", row)
					}
					return
				}
				if row.Index.Digest != c.index || w.convertedTag("7") != c.index {
					t.Errorf("converted to %s, at the tag %s, want %s", row.Index.Digest, w.convertedTag("7"), c.index)
				}
				after := layout{t, filepath.Join("testdata/images", c.image, c.folder)}
				for _, m := range row.Made {
					if string(w.read(m.Digest)) != string(after.blob(m.Digest)) {
						t.Errorf("%s is not what the tool made", m.Digest)
					}
				}
			})
		})
	}
}

// TestConversionGrows: each platform that comes is added; what was there stays
// readable for a while, and a restart changes nothing.
func TestConversionGrows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		rule := Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536}
		w, s := startSupplied(t, dir, "buildkit", rule)
		source := s.pull(t, "7", "linux/amd64")
		w.settle()
		one, _ := w.conversion(source)
		if one.Index.Digest.Encoded()[:12] != "576a5dbce21c" { // of images.tsv, --platform linux/amd64
			t.Fatalf("with one platform: %+v", one)
		}
		s.pull(t, "7", "linux/arm/v7", "linux/arm64")
		w.settle()
		all, _ := w.conversion(source)
		if all.Index.Digest.Encoded()[:12] != "a650cde61f57" || w.convertedTag("7") != all.Index.Digest {
			t.Fatalf("with all platforms: %+v, at the tag %s", all, w.convertedTag("7"))
		}
		w.read(one.Index.Digest)
		w.stop()

		w, s = startSupplied(t, dir, "buildkit", rule)
		w.settle()
		if again, _ := w.conversion(source); again.Index.Digest != all.Index.Digest || !again.Created.Equal(all.Created) {
			t.Errorf("after a restart: %+v", again)
		}
		if len(s.asked) > 0 {
			t.Errorf("fetched %v", s.asked)
		}
		time.Sleep(25 * time.Hour)
		w.settle()
		if _, err := w.store.Stat(t.Context(), one.Index.Digest); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the first conversion is kept for ever: %v", err)
		}
		for _, m := range all.Made {
			w.read(m.Digest)
		}
	})
}

// TestConversionTraps: what is not to be converted is not, and goes when the
// rule does.
func TestConversionTraps(t *testing.T) {
	rule := Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536}
	t.Run("what was converted", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w, s := startSupplied(t, t.TempDir(), "buildkit", rule)
			source := s.pull(t, "7", "linux/amd64")
			w.settle()
			row, _ := w.conversion(source)
			s.putTag(t, "7-soci", row.Index.Digest) // as it is after it was pushed to the upstream
			for _, m := range append(slices.Clone(row.Made), storage.MadeBlob{Digest: row.Index.Digest}) {
				w.view(func(tx storage.Tx) error {
					mrow, err := tx.Manifest(m.Digest)
					w.check("note", w.x.Manifest(t.Context(), redis, mrow))
					return err
				})
			}
			w.settle()
			for _, m := range row.Made {
				if again, ok := w.conversion(m.Digest); ok {
					t.Errorf("%s was converted again: %+v", m.Digest, again)
				}
				if len(w.referrers(m.Digest)) > 0 {
					t.Errorf("%s was indexed again", m.Digest)
				}
			}
		})
	})
	t.Run("without a tag", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w, s := startSupplied(t, t.TempDir(), "docker", rule)
			source := s.pull(t, "7", "linux/amd64")
			w.check("untag", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteTag(redis, "7") }))
			w.settle()
			if row, ok := w.conversion(source); ok {
				t.Errorf("converted to %+v", row)
			}
		})
	})
	t.Run("an upstream away", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			w, s := startSupplied(t, t.TempDir(), "docker", rule)
			source := s.pull(t, "7", "linux/amd64")
			s.mu.Lock()
			s.fault = errFault
			s.mu.Unlock()
			w.settle()
			if row, ok := w.conversion(source); ok {
				t.Errorf("converted without knowing all manifests: %+v", row)
			}
			s.mu.Lock()
			s.fault = nil
			s.mu.Unlock()
			time.Sleep(time.Minute)
			w.settle()
			if row, _ := w.conversion(source); row.Index.Digest.Encoded()[:12] != "3d348377eb83" {
				t.Errorf("after it came back: %+v", row)
			}
		})
	})
	t.Run("a rule that changes", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			dir := t.TempDir()
			w, s := startSupplied(t, dir, "docker", rule)
			source := s.pull(t, "7", "linux/amd64")
			w.settle()
			was, _ := w.conversion(source)
			w.stop()
			v1 := rule
			v1.Publish = PublishV1
			w, _ = startSupplied(t, dir, "docker", v1)
			w.settle()
			if row, ok := w.conversion(source); ok || w.convertedTag("7") != "" {
				t.Errorf("still there: %+v, at the tag %s", row, w.convertedTag("7"))
			}
			w.read(was.Index.Digest)
		})
	})
}

// TestTagMoves: an image that nobody pulls but by its converted tag is fetched
// and converted when that is asked for, once.
func TestTagMoves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		rule := Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536}
		w, s := startSupplied(t, t.TempDir(), "buildkit", rule)
		first := s.pull(t, "7", "linux/arm64")
		w.settle()
		was := w.convertedTag("7")
		w.stop()
		before := layout{t, "testdata/images/docker/before"}
		w, s = startSupplied(t, w.dir, "docker", rule)
		second := s.pull(t, "7") // its manifest alone, as the proxy checks the tag
		s.from = before
		w.settle()
		if got := w.convertedTag("7"); got != was {
			t.Errorf("the tag leads to %s before the new image is converted, was %s", got, was)
		}
		for range 3 {
			w.x.Moved(redis, "7")
		}
		w.settle()
		if _, ok := w.conversion(first); !ok {
			t.Error("the old conversion is gone")
		}
		// Of arm64, which was converted before, no layer is large enough here.
		if row, ok := w.conversion(second); ok {
			t.Errorf("converted to %+v", row)
		}
		w.check("image", w.x.Image(t.Context(), redis, oci.Reference{Tag: "7"}, []string{"linux/amd64"}))
		w.settle()
		if row, _ := w.conversion(second); row.Index.Digest.Encoded()[:12] != "3d348377eb83" || w.convertedTag("7") != row.Index.Digest {
			t.Errorf("converted to %+v", row)
		}
		if n := len(s.asked); n != 2 {
			t.Errorf("%d blobs fetched, want the two layers", n)
		}
	})
}

// TestPurgeOfConverted: an image that is purged leaves nothing of what was made
// of it, and nothing that leads there.
func TestPurgeOfConverted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, s := startSupplied(t, t.TempDir(), "buildkit", Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536})
		source := s.pull(t, "7", "linux/amd64", "linux/arm64")
		w.settle()
		row, ok := w.conversion(source)
		if !ok {
			t.Fatal("it was not converted")
		}
		_, err := w.store.PurgeImage(t.Context(), storage.PurgeOptions{Repo: redis, Root: source})
		w.check("purge", err)
		w.settle()
		for _, m := range row.Made {
			if _, err := w.store.Stat(t.Context(), m.Digest); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s, made of %s, is here: %v", m.Digest, m.Of, err)
			}
		}
		if _, ok := w.conversion(source); ok || w.convertedTag("7") != "" {
			t.Error("its rows are here")
		}
		w.view(func(tx storage.Tx) error {
			return tx.Blobs(func(b storage.BlobRow) error {
				if b.Digest != oci.EmptyDigest {
					t.Errorf("left: %+v", b)
				}
				return nil
			})
		})
	})
}
