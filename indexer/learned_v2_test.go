package indexer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// converted is a world with one converted platform, and what it is converted by.
type converted struct {
	*world
	s        *supply
	rule     Rule
	source   digest.Digest
	platform *image
}

// startConverted converts an image of which starts are known, or not yet.
func startConverted(t *testing.T, dir string, known bool) *converted {
	t.Helper()
	c := &converted{rule: Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536}}
	first := c.rule
	if known {
		first.Publish = PublishV1
	}
	c.s = newSupply(layout{t, "testdata/images/buildkit/before"})
	c.world = start(t, dir, Options{Rules: []Rule{first}, Fetch: c.s, Learned: true}, nil)
	c.s.w = c.world
	c.source = c.s.pull(t, "7", "linux/amd64")
	c.settle()
	c.view(func(tx storage.Tx) error {
		row, err := tx.Manifest(c.source)
		for i := range row.Manifest.Manifests {
			if m := &row.Manifest.Manifests[i]; platformName(m.Platform) == "linux/amd64" {
				c.platform = &image{digest: m.Digest, manifest: *c.s.manifest(m.Digest)}
			}
		}
		return err
	})
	if known {
		c.learn(c.platform, 0)
		c.settle()
		c.apply(c.rule)
	}
	return c
}

// apply has the one rule apply, and waits for what comes of it.
func (c *converted) apply(rule Rule) {
	c.x.SetRules([]Rule{rule})
	c.settle()
}

// index is what the tag is converted to; "" where it is not.
func (c *converted) index() digest.Digest {
	row, _ := c.conversion(c.source)
	return row.Index.Digest
}

// wantSame changes all that is no part of the source or the rule, and the rule and
// back, and looks whether the converted image stays what it was.
func (c *converted) wantSame(t *testing.T, was digest.Digest) {
	t.Helper()
	want := func(what string) {
		t.Helper()
		if got := c.index(); got != was {
			t.Errorf("%s: %s, want %s", what, got, was)
		}
	}
	want("at first")
	c.learn(c.platform, 0, 1)
	c.settle()
	want("more is learnt")

	v1 := c.rule
	v1.Publish = PublishV1
	c.apply(v1)
	if got := c.index(); got != "" {
		t.Fatalf("withdrawn: %s", got)
	}
	c.apply(c.rule)
	want("another rule, and this one again")

	wider := c.rule
	wider.SpanSize *= 2
	c.apply(wider)
	if got := c.index(); got == "" || got == was {
		t.Fatalf("with other spans: %q", got)
	}
	c.apply(c.rule)
	want("other spans, and these again")

	c.check("withdraw", c.store.Update(t.Context(), func(tx storage.Tx) error {
		_, err := storage.WithdrawIndexes(tx, oci.Repo{}, c.source, c.x.now())
		return err
	}))
	c.settle()
	if got := c.index(); got != "" {
		t.Fatalf("withdrawn by hand: %s", got)
	}
	row := storage.ManifestRow{Digest: c.platform.digest, Size: int64(len(c.s.from.blob(c.platform.digest))), Manifest: c.platform.manifest}
	c.check("want", c.x.Want(t.Context(), redis, row, storage.Asked{}))
	c.settle()
	want("asked for again")

	c.check("forget", c.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteLearn(c.platform.digest) }))
	c.apply(v1)
	c.apply(c.rule)
	want("all is forgotten")
}

// TestConvertedImageNeverMoves: a converted image follows from its source and the
// rule, and from what was known when it was first made, through whatever comes.
func TestConvertedImageNeverMoves(t *testing.T) {
	for name, known := range map[string]bool{"nothing was known": false, "its starts were known": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := startConverted(t, t.TempDir(), known)
				row, _ := c.conversion(c.source)
				if got := len(row.Prefetch) > 0; got != known {
					t.Fatalf("converted with %+v", row.Prefetch)
				}
				c.wantSame(t, row.Index.Digest)
			})
		})
	}
}

// TestConvertedImageOfLostManifest: a manifest whose bytes were damaged, and that was
// fetched again, is converted to what it was.
func TestConvertedImageOfLostManifest(t *testing.T) {
	for name, known := range map[string]bool{"nothing was known": false, "its starts were known": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := startConverted(t, t.TempDir(), known)
				was := c.index()
				c.learn(c.platform, 0, 1)
				c.settle()
				_, err := c.store.Purge(t.Context(), c.platform.digest)
				c.check("lose the manifest", err)
				c.settle()
				c.check("fetch it again", c.s.FetchManifest(t.Context(), redis, c.platform.digest))
				c.apply(c.rule)
				c.wantSame(t, was)
			})
		})
	}
}

// TestConversionsFromBefore: what conversions took that were made before that was
// kept is found out of them, before anything is made anew.
func TestConversionsFromBefore(t *testing.T) {
	for name, known := range map[string]bool{"nothing was known": false, "its starts were known": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				dir := t.TempDir()
				c := startConverted(t, dir, known)
				was := c.index()
				var taken storage.TakenRow
				c.check("be from before", c.store.Update(t.Context(), func(tx storage.Tx) (err error) {
					if taken, err = tx.Taken(c.platform.digest); err != nil {
						return err
					}
					return forgetTaken(tx, c.platform.digest)
				}))
				c.stop()
				c.world = start(t, dir, Options{Rules: []Rule{c.rule}, Fetch: c.s, Learned: true}, nil)
				c.s.w = c.world
				c.settle()
				c.view(func(tx storage.Tx) error {
					got, err := tx.Taken(c.platform.digest)
					if diff := cmp.Diff(taken, got); diff != "" {
						t.Errorf("what it took (-kept +found):\n%s", diff)
					}
					return err
				})
				c.wantSame(t, was)
			})
		})
	}
}

// forgetTaken has a store be as it was before it was kept what conversions took.
func forgetTaken(tx storage.Tx, manifest digest.Digest) error {
	row, err := tx.Manifest(manifest)
	if err != nil {
		return err
	}
	learn, err := tx.Learn(manifest)
	if err = ignoreNotFound(err); err != nil {
		return err
	}
	if err := tx.DeleteManifest(manifest); err != nil { // with which it goes
		return err
	}
	if err := tx.PutManifest(row); err != nil || learn.Manifest == "" {
		return err
	}
	return tx.PutLearn(learn)
}
