package indexer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// origin is an upstream that takes pushes. What it is sent must be whole: a
// manifest names nothing that is not there.
type origin struct {
	t  *testing.T
	mu sync.Mutex

	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest][]byte
	tags      map[string]digest.Digest
	lists     map[digest.Digest][]v1.Descriptor
	puts      int
	faults    int   // so many changes fail
	refuse    error // of all that would be changed
	unlisted  int   // so many pushes of referrers fail when the manifest is there
	lost      int   // so many of them do all that they should, and it is not heard
	noDelete  bool  // and it lists what it keeps
	keeps     bool  // it takes it off its list, and does not delete it
	hosted    bool
}

func newOrigin(t *testing.T) *origin {
	return &origin{t: t, blobs: map[digest.Digest][]byte{}, manifests: map[digest.Digest][]byte{},
		tags: map[string]digest.Digest{}, lists: map[digest.Digest][]v1.Descriptor{}}
}

func (o *origin) fault() error {
	if o.refuse != nil {
		return o.refuse
	}
	if o.faults > 0 {
		o.faults--
		return errors.New("trouble")
	}
	o.puts++
	return nil
}

func (o *origin) Takes(oci.Repo) bool { return !o.hosted }

func (o *origin) Manifest(_ context.Context, _ oci.Repo, ref oci.Reference) (digest.Digest, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := ref.Digest
	if d == "" {
		d = o.tags[ref.Tag]
	}
	if _, ok := o.manifests[d]; !ok {
		return "", fmt.Errorf("%s: %w", ref, storage.ErrNotFound)
	}
	return d, nil
}

func (o *origin) Read(_ context.Context, _ oci.Repo, d digest.Digest) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if body, ok := o.manifests[d]; ok {
		return bytes.Clone(body), nil
	}
	return nil, fmt.Errorf("%s: %w", d, storage.ErrNotFound)
}

func (o *origin) Referrers(_ context.Context, _ oci.Repo, subject digest.Digest, _ string) ([]v1.Descriptor, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lists[subject]), nil
}

func (o *origin) PushBlob(_ context.Context, _ oci.Repo, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.blobs[d.Digest] != nil {
		return nil
	}
	if err := o.fault(); err != nil {
		return err
	}
	rc, err := open()
	if err != nil {
		return err
	}
	body, err := io.ReadAll(rc)
	if digest.FromBytes(body) != d.Digest || int64(len(body)) != d.Size {
		o.t.Errorf("blob %s came as %d bytes", d.Digest, len(body))
	}
	o.blobs[d.Digest] = body
	return errors.Join(err, rc.Close())
}

func (o *origin) PushManifest(_ context.Context, _ oci.Repo, ref oci.Reference, mediaType string, body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.fault(); err != nil {
		return err
	}
	m, err := oci.ParseManifest(body, mediaType)
	if err != nil {
		return err
	}
	for _, d := range m.Manifests {
		if o.manifests[d.Digest] == nil && oci.RealPlatform(d.Platform) {
			o.t.Errorf("%s names manifest %s, which is not there", ref, d.Digest)
		}
	}
	if strings.HasPrefix(m.ArtifactType, oci.SOCIPrefix) {
		for _, d := range append([]v1.Descriptor{*m.Config}, m.Layers...) {
			if o.blobs[d.Digest] == nil {
				o.t.Errorf("%s names blob %s, which is not there", ref, d.Digest)
			}
		}
	}
	d := digest.FromBytes(body)
	o.manifests[d] = bytes.Clone(body)
	if ref.Tag != "" {
		o.tags[ref.Tag] = d
	}
	return nil
}

func (o *origin) PushReferrer(ctx context.Context, repo oci.Repo, subject digest.Digest, d v1.Descriptor, body []byte, _ []digest.Digest) (bool, error) {
	if err := o.PushManifest(ctx, repo, oci.Reference{Digest: d.Digest}, d.MediaType, body); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unlisted > 0 {
		o.unlisted--
		return false, errors.New("trouble with the list")
	}
	if d.ArtifactType != oci.MediaTypeSOCIIndexV1 || d.Size != int64(len(body)) {
		o.t.Errorf("listed as %+v", d)
	}
	if !slices.ContainsFunc(o.lists[subject], func(x v1.Descriptor) bool { return x.Digest == d.Digest }) {
		o.lists[subject] = append(o.lists[subject], d)
	}
	if o.lost > 0 {
		o.lost--
		return false, errors.New("trouble with the answer")
	}
	return true, nil
}

func (o *origin) Unlist(_ context.Context, _ oci.Repo, subject, d digest.Digest, fallback bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.noDelete || !fallback {
		return fmt.Errorf("no: %w", ErrRefused)
	}
	o.lists[subject] = slices.DeleteFunc(o.lists[subject], func(x v1.Descriptor) bool { return x.Digest == d })
	if o.keeps {
		return fmt.Errorf("no: %w", ErrRefused)
	}
	return nil
}

func (o *origin) has(img *image) { o.manifests[img.digest] = img.body }

func (o *origin) listed(d digest.Digest) (ds []digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.lists[d] {
		ds = append(ds, x.Digest)
	}
	return ds
}

func (w *world) published(d digest.Digest) (rows []storage.PublishedRow) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		rows = nil
		return tx.PublishedOf(d, func(row storage.PublishedRow) error { rows = append(rows, row); return nil })
	})
	return rows
}

// TestWritesBackV1: an index is pushed after its zTOCs, through trouble and over a
// restart, once; its successor takes its place; what others have there stays.
func TestWritesBackV1(t *testing.T) {
	a := newLayer(t, 1)
	rule := func(spanSize int64, push string) []Rule {
		return []Rule{{Repositories: []string{"**"}, SpanSize: spanSize, Publish: PublishV1, PublishUpstream: push}}
	}
	s := newSupply(layout{})
	inBubble(t, func(t *testing.T) {
		img := newImage(t, "img", a)
		up := newOrigin(t)
		up.has(img)
		up.faults = 3
		dir := t.TempDir()
		w := start(t, dir, Options{Rules: rule(64<<10, ""), Publish: up, Fetch: s}, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		first := w.wantIndex(img, a).Digest
		if up.puts > 0 || len(w.tasks()) > 0 {
			t.Errorf("%d changes and tasks %q without the rule's word", up.puts, w.tasks())
		}
		w.x.SetRules(rule(64<<10, PublishV1))
		w.settle() // the first attempt went wrong
		if got := w.tasks(); len(got) != 1 || !strings.HasPrefix(got[0], "push ") {
			t.Fatalf("tasks %q", got)
		}
		w.stop()
		w = start(t, dir, Options{Rules: rule(64<<10, PublishV1), Publish: up, Fetch: s}, nil)
		time.Sleep(time.Hour)
		if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{first}) {
			t.Fatalf("listed %v, want %s", got, first)
		}
		if rows := w.published(img.digest); len(rows) != 1 || rows[0].Index != first || !rows[0].Made || !rows[0].Fallback || len(w.tasks()) > 0 {
			t.Errorf("filed %+v, tasks %q", rows, w.tasks())
		}
		puts := up.puts
		w.manifest(redis, img)
		w.x.SetRules(rule(64<<10, PublishUpstreamAll))
		w.settle()
		if up.puts != puts {
			t.Errorf("%d changes more for what is there", up.puts-puts)
		}
		for i, keeps := range []bool{false, true} {
			up.keeps = keeps
			w.x.SetRules(rule(128<<10<<i, PublishV1))
			w.settle()
			second := w.wantIndex(img, a).Digest
			if got := up.listed(img.digest); !slices.Equal(got, []digest.Digest{second}) {
				t.Errorf("listed %v, want %s alone", got, second)
			}
			rows := slices.DeleteFunc(w.published(img.digest), func(r storage.PublishedRow) bool { return r.Unlisted })
			if len(rows) != 1 || rows[0].Index != second || len(w.tasks()) > 0 {
				t.Errorf("filed %+v, tasks %q", rows, w.tasks())
			}
		}
	})
}

// TestLeavesOthersAlone: where somebody else's index is, where the image is gone,
// and where nothing can be pushed, nothing is changed, and it is told why.
func TestLeavesOthersAlone(t *testing.T) {
	a := newLayer(t, 1)
	rules := []Rule{{Repositories: []string{"**"}, SpanSize: 64 << 10, Publish: PublishV1, PublishUpstream: PublishUpstreamAll}}
	theirs := digest.FromString("theirs")
	for _, tc := range []struct {
		name    string
		prepare func(*origin, *image)
		rows    int
		instead digest.Digest
		failed  bool
	}{
		{"another index", func(o *origin, img *image) {
			o.has(img)
			o.lists[img.digest] = []v1.Descriptor{{Digest: theirs, ArtifactType: oci.MediaTypeSOCIIndexV1}}
		}, 1, theirs, false},
		{"gone", func(*origin, *image) {}, 0, "", false},
		{"refused", func(o *origin, img *image) {
			o.has(img)
			o.refuse = fmt.Errorf("immutable: %w", ErrRefused)
		}, 0, "", true},
		{"hosted", func(o *origin, _ *image) { o.hosted = true }, 0, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				img := newImage(t, "img", a)
				up := newOrigin(t)
				tc.prepare(up, img)
				before := len(up.manifests)
				w := start(t, t.TempDir(), Options{Rules: rules, Publish: up, Fetch: newSupply(layout{})}, nil)
				w.manifest(redis, img)
				w.whole(a)
				time.Sleep(time.Minute)
				w.manifest(redis, img)
				w.settle()
				rows := w.published(img.digest)
				if len(rows) != tc.rows || tc.rows > 0 && rows[0].Instead != tc.instead {
					t.Errorf("filed %+v", rows)
				}
				if !tc.failed && len(w.tasks()) > 0 {
					t.Errorf("tasks %q, want none", w.tasks())
				}
				failed := len(w.tasks()) == 1 && strings.HasSuffix(w.tasks()[0], "!")
				if failed != tc.failed || len(up.manifests) != before || up.puts > 0 {
					t.Errorf("tasks %q, %d changes", w.tasks(), up.puts)
				}
			})
		})
	}
}

// TestWritesBackV2: a converted image is pushed whole to TAG-soci; when the tag
// moves, so does what is ours; what is somebody else's is left.
func TestWritesBackV2(t *testing.T) {
	c := readConversions(t)[0]
	rule := Rule{Repositories: []string{"redis"}, MinLayerSize: c.minLayerSize, SpanSize: c.spanSize, PublishUpstream: PublishV2}
	inBubble(t, func(t *testing.T) {
		s := newSupply(layout{t, "testdata/images/" + c.image + "/before"})
		up := newOrigin(t)
		w := start(t, t.TempDir(), Options{Rules: []Rule{rule}, Publish: up, Fetch: s}, nil)
		s.w = w
		src := s.from.source()
		up.manifests[src.Descriptor.Digest] = src.Body
		maps.Copy(up.manifests, src.Manifests)
		other := []byte(`{"schemaVersion":2}`)
		up.manifests[digest.FromBytes(other)] = other
		up.tags["taken-soci"] = digest.FromBytes(other)
		var platforms []string
		index, err := src.index()
		w.check("read the source", err)
		for _, d := range index.Manifests {
			platforms = append(platforms, platformName(d.Platform))
		}
		source := s.pull(t, "7", platforms...)
		w.settle()
		row, ok := w.conversion(source)
		if !ok {
			t.Fatal("not converted")
		}
		if up.tags["7-soci"] != row.Index.Digest || len(w.tasks()) > 0 || len(up.lists) > 0 {
			t.Fatalf("7-soci leads to %s, want %s; tasks %q; lists %v", up.tags["7-soci"], row.Index.Digest, w.tasks(), up.lists)
		}
		// Two more tags, of which one is not free at the upstream.
		for _, tag := range []string{"7.2", "taken"} {
			s.putTag(t, tag, source)
		}
		w.check("seen again", s.FetchManifest(t.Context(), redis, source))
		for _, d := range index.Manifests {
			if platformName(d.Platform) != "" {
				w.check("seen again", s.FetchManifest(t.Context(), redis, d.Digest))
			}
		}
		w.settle()
		rows := w.published(source)
		if up.tags["7.2-soci"] != row.Index.Digest || up.tags["taken-soci"] != digest.FromBytes(other) ||
			len(rows) != 1 || !slices.Equal(rows[0].Taken, []string{"taken-soci"}) || !slices.Equal(rows[0].Tags, []string{"7-soci", "7.2-soci"}) {
			t.Errorf("tags %v, filed %+v, tasks %q", up.tags, rows, w.tasks())
		}
		puts := up.puts
		w.x.SetRules([]Rule{rule})
		w.settle()
		if up.puts != puts {
			t.Errorf("%d changes more for what is there", up.puts-puts)
		}
	})
}
