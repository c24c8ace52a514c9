package storage_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestPurgeImage(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 300_000, spanSize)
	everything := []string{"index", "one", "two", "other", "base", "extra", "shared", "layer", "span", "soci", "ztoc"}
	for _, c := range []struct {
		name    string
		before  func(w *world) error
		root    func(w *world) digest.Digest
		want    error
		gone    []string
		shared  int
		aTags   []string
		aRights []string // names, of what is still there
		blocked func(w *world) []digest.Digest
	}{
		{
			name: "an index", root: func(w *world) digest.Digest { return w.index },
			gone: []string{"index", "one", "two", "extra", "layer", "span", "soci", "ztoc"}, shared: 2, // base, and the config
			blocked: func(w *world) []digest.Digest { return []digest.Digest{w.index, w.one, w.two, w.never} },
		},
		{
			name: "one platform", root: func(w *world) digest.Digest { return w.one },
			gone: []string{"one", "layer", "span", "soci", "ztoc"}, shared: 2, // base, and the config
			aTags: []string{"1", "latest"}, aRights: []string{"base", "extra", "index", "two"},
			blocked: func(w *world) []digest.Digest { return []digest.Digest{w.one} },
		},
		{
			name: "one platform has a tag of its own",
			before: func(w *world) error {
				return w.Update(w.t.Context(), func(tx storage.Tx) error {
					return tx.PutTag(storage.TagRow{Repo: repoA, Tag: "amd64", Digest: w.one})
				})
			},
			root: func(w *world) digest.Digest { return w.index },
			gone: []string{"index", "two", "extra"}, shared: 4,
			aTags: []string{"amd64"}, aRights: []string{"base", "layer", "one"},
			blocked: func(w *world) []digest.Digest { return []digest.Digest{w.index, w.two, w.never} },
		},
		{
			name: "one platform is pinned",
			before: func(w *world) error {
				_, err := w.Pin(w.t.Context(), "docker.io/library/a@"+w.one.String(), w.one)
				return err
			},
			root: func(w *world) digest.Digest { return w.index },
			gone: []string{"index", "two", "extra"}, shared: 4, aRights: []string{"base", "layer", "one"},
			blocked: func(w *world) []digest.Digest { return []digest.Digest{w.index, w.two, w.never} },
		},
		{
			name: "pinned",
			before: func(w *world) error {
				_, err := w.Pin(w.t.Context(), "docker.io/library/a:1", w.index)
				return err
			},
			root: func(w *world) digest.Digest { return w.index }, want: storage.ErrPinned,
			aTags: []string{"1", "latest"}, aRights: []string{"base", "extra", "index", "layer", "one", "two"},
		},
		{
			name: "unknown", root: func(*world) digest.Digest { return digest.FromString("unknown") }, want: storage.ErrNotFound,
			aTags: []string{"1", "latest"}, aRights: []string{"base", "extra", "index", "layer", "one", "two"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, l)
			if c.before != nil {
				if err := c.before(w); err != nil {
					t.Fatal(err)
				}
			}
			before := w.Usage().Total()
			got, err := w.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: c.root(w), Block: &storage.BlockRow{Name: "a:1", Reason: "why"}})
			if !errors.Is(err, c.want) {
				t.Fatalf("PurgeImage: %v, want %v", err, c.want)
			}
			var stays []string
			for _, name := range everything {
				if !slices.Contains(c.gone, name) {
					stays = append(stays, name)
				}
			}
			w.wantWhich(w.all, stays...)
			if got.Blobs != len(c.gone) || got.Shared != c.shared || got.Freed != before-w.Usage().Total() {
				t.Errorf("%+v, want %d blobs gone, %d shared, %d bytes", got, len(c.gone), c.shared, before-w.Usage().Total())
			}
			if tags := w.tagged(repoA); !slices.Equal(tags, c.aTags) {
				t.Errorf("tags %v are left, want %v", tags, c.aTags)
			}
			if rights := w.rights(repoA); !slices.Equal(rights, c.aRights) {
				t.Errorf("rights to %v are left, want %v", rights, c.aRights)
			}
			if rights := without(w.rights(repoB), []string{"ztoc"}); !slices.Equal(rights, []string{"base", "other", "shared"}) {
				t.Errorf("another repository's rights are to %v", rights)
			}
			if c.blocked != nil {
				w.wantBlocked(c.blocked(w), got.Blocked)
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			w.wantUsage()
			w.wantNoGarbage()
			if c.want == nil {
				if found, _ := w.check(false); len(found) > 0 {
					t.Errorf("rows contradict each other: %v", found)
				}
			}
		})
	}
}

func (w *world) wantBlocked(want, told []digest.Digest) {
	w.t.Helper()
	var rows []digest.Digest
	err := w.View(w.t.Context(), func(tx storage.Tx) error {
		rows = nil
		return tx.Blocks(func(row storage.BlockRow) error {
			if row.Name != "a:1" || row.Reason != "why" || row.Created.IsZero() {
				w.t.Errorf("block %+v", row)
			}
			rows = append(rows, row.Digest)
			return nil
		})
	})
	if err != nil {
		w.t.Error(err)
	}
	slices.Sort(want)
	slices.Sort(told)
	if !slices.Equal(rows, want) || !slices.Equal(told, want) {
		w.t.Errorf("blocked are %v, told %v, want %v", rows, told, want)
	}
}

// TestPurgeImageUnderReaders has a client read what is purged to its end, and a
// transfer into it go on, of which nothing is kept.
func TestPurgeImageUnderReaders(t *testing.T) {
	w := newWorld(t, storagetest.NewLayer(t, "layer", 300_000, spanSize))
	open, err := w.Open(t.Context(), w.l.Digest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Purge(t.Context(), w.extra); err != nil {
		t.Fatal(err)
	}
	p := w.openPartial(w.extra)
	writeAt(t, p, kb("extra", 10), ranges(0, 5000)...)
	if _, err := w.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: w.index}); err != nil {
		t.Fatalf("PurgeImage: %v", err)
	}
	got := make([]byte, w.l.Row.Size)
	if _, err := open.ReadAt(got, 0); err != nil || digest.FromBytes(got) != w.l.Digest() {
		t.Errorf("who had the layer open reads other bytes, or %v", err)
	}
	writeAt(t, p, kb("extra", 10), ranges(5000, 10_000)...) // for who reads it
	if err := p.Promote(t.Context(), storage.KindBlob, 10_000); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Promote of a purged partial: %v, want ErrNotFound", err)
	}
	closeIt(t, p)
	closeIt(t, open)
	w.wantUsage()
	w.wantNoGarbage()
}

// TestPurgeMade purges single blobs that others speak of: nothing speaks of them
// any more.
func TestPurgeMade(t *testing.T) {
	l := stockLayer(t)
	for _, name := range []string{"ztoc", "index", "image", "span", "layer"} {
		t.Run(name, func(t *testing.T) {
			r := newStock(t, l)
			d := map[string]digest.Digest{
				"ztoc": l.Row.ZTOC, "index": r.index, "image": r.image, "span": r.span, "layer": l.Digest(),
			}[name]
			if freed, err := r.Purge(t.Context(), d); err != nil || freed == 0 {
				t.Fatalf("Purge: %d, %v", freed, err)
			}
			if found, _ := r.check(false); len(found) > 0 {
				t.Errorf("rows contradict each other: %v", found)
			}
			var state storage.LayerState
			var listed int
			err := r.View(t.Context(), func(tx storage.Tx) error {
				row, err := tx.Layer(l.Digest(), spanSize)
				state, listed = row.State, 0
				return errors.Join(err, tx.Referrers(r.image, func(storage.ReferrerRow) error { listed++; return nil }))
			})
			want := storage.LayerIndexed
			if name == "ztoc" {
				want = storage.LayerWanted
			}
			if err != nil || state != want || (listed == 1) == (name == "ztoc" || name == "index") {
				t.Errorf("the layer is %s, want %s, %d indexes are listed: %v", state, want, listed, err)
			}
		})
	}
}

func TestBlock(t *testing.T) {
	w := newWorld(t, storagetest.NewLayer(t, "layer", 300_000, spanSize))
	blocked := func(d digest.Digest) (err error) {
		return w.View(t.Context(), func(tx storage.Tx) error { return storage.NotBlocked(tx, d) })
	}
	if err := blocked(w.index); err != nil {
		t.Errorf("before: %v", err)
	}
	if err := w.Block(t.Context(), storage.BlockRow{Digest: w.index}); err != nil {
		t.Fatalf("Block: %v", err)
	}
	if err := blocked(w.index); !errors.Is(err, storage.ErrBlocked) {
		t.Errorf("NotBlocked: %v, want ErrBlocked", err)
	}
	if err := blocked(w.one); err != nil {
		t.Errorf("another digest: %v", err)
	}
	if tags := w.tagged(repoA); len(tags) > 0 {
		t.Errorf("tags %v lead to it", tags)
	}
	if tags := w.tagged(repoB); len(tags) != 1 {
		t.Errorf("another image has the tags %v", tags)
	}
	if err := w.Unblock(t.Context(), w.index, w.one); err != nil {
		t.Errorf("Unblock: %v", err)
	}
	if err := blocked(w.index); err != nil {
		t.Errorf("after: %v", err)
	}
	if _, err := w.Pin(t.Context(), "a:1", w.index); err != nil {
		t.Fatal(err)
	}
	if err := w.Block(t.Context(), storage.BlockRow{Digest: w.one}); !errors.Is(err, storage.ErrPinned) {
		t.Errorf("Block of what is pinned: %v, want ErrPinned", err)
	}
}

// TestPurgeLayer purges a layer by its digest: nothing that was made of it, and
// nobody's right to it, is left; what another layer has stays. Purged as a file, it
// loses that alone.
func TestPurgeLayer(t *testing.T) {
	l, other := storagetest.NewLayer(t, "layer", 300_000, spanSize), storagetest.NewLayer(t, "other", 200_000, spanSize)
	repo := oci.Repo{Upstream: "up", Name: "a"}
	fill := func(t *testing.T) *rig {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		for _, x := range []*storagetest.Layer{l, other} {
			x.Store(t, r.Store)
			for i := range 2 {
				sp := x.Table.Span(i)
				row := storage.BlobRow{Digest: sp.Digest, Kind: storage.KindSpan, Of: x.Digest()}
				w, err := r.Create(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err = w.Write(x.Body[sp.Off:sp.End]); err == nil {
					err = w.Commit(t.Context(), row, []storage.Durability{storage.Durable, storage.Cached}[i])
				}
				closeIt(t, w)
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		image := r.putManifest("image", []digest.Digest{l.Digest()}, nil)
		err := r.Update(t.Context(), func(tx storage.Tx) error {
			return errors.Join(tx.PutRight(repo, l.Digest()), tx.PutRight(repo, other.Digest()),
				tx.PutReferrer(storage.ReferrerRow{Subject: image, Descriptor: v1.Descriptor{Digest: digest.FromString("index")}}),
				tx.PutImage(storage.ImageRow{
					Manifest: v1.Descriptor{Digest: image}, Index: digest.FromString("index"), IndexSize: 5, Published: noon,
					Layers: []storage.ImageLayer{{Descriptor: v1.Descriptor{Digest: l.Digest()}, SpanSize: spanSize}},
				}))
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	rows := func(r *rig) (state storage.LayerState, right, listed bool) {
		err := r.View(t.Context(), func(tx storage.Tx) (err error) {
			row, err := tx.Layer(l.Digest(), spanSize)
			if err != nil {
				return err
			}
			state = row.State
			if right, err = tx.HasRight(repo, l.Digest()); err != nil {
				return err
			}
			return tx.Images(func(img storage.ImageRow) error {
				listed = listed || img.Index != ""
				return nil
			})
		})
		if err != nil {
			t.Error(err)
		}
		return state, right, listed
	}
	t.Run("blob", func(t *testing.T) {
		r := fill(t)
		out, err := r.PurgeBlob(t.Context(), l.Digest(), false)
		want := l.Row.Size + l.Row.ZTOCSize + l.Table.Span(0).End - l.Table.Span(0).Off + l.Table.Span(1).End - l.Table.Span(1).Off
		if err != nil || out.Blobs != 4 || out.Freed != want {
			t.Errorf("purge: %+v, %v, want 4 blobs of %d bytes", out, err, want)
		}
		for _, d := range []digest.Digest{l.Digest(), l.Row.ZTOC, l.Table.Span(0).Digest, l.Table.Span(1).Digest} {
			r.wantAbsent("what was made of it", d)
		}
		for _, d := range []digest.Digest{other.Digest(), other.Row.ZTOC, other.Table.Span(0).Digest, other.Table.Span(1).Digest} {
			r.wantServed("what is another's", d)
		}
		if state, right, listed := rows(r); state != storage.LayerWanted || right || listed {
			t.Errorf("the layer is %v, a right is left %t, its image's index is listed %t", state, right, listed)
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if found, _ := r.check(false); len(found) > 0 {
			t.Errorf("the rows contradict each other: %q", found)
		}
		r.wantUsage()
	})
	t.Run("file", func(t *testing.T) {
		r := fill(t)
		if freed, err := r.PurgeFile(t.Context(), l.Digest(), false); err != nil || freed != l.Row.Size {
			t.Errorf("purge: %d, %v", freed, err)
		}
		r.wantAbsent("the file", l.Digest())
		r.wantServed("a span", l.Table.Span(0).Digest)
		if state, right, listed := rows(r); state != storage.LayerIndexed || !right || !listed {
			t.Errorf("the layer is %v, a right is left %t, its image's index is listed %t", state, right, listed)
		}
	})
}
