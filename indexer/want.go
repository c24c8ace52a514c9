package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Why Want refuses.
var (
	ErrDisabled     = errors.New("indexing is switched off (index.enabled)")
	ErrNotIndexable = errors.New("it is no image, or carries a SOCI index already")
)

// Want says that an operator wants an index of an image manifest that is stored
// and was found in repo, whatever the rules say, now and later, with the sizes of
// how, or where it has none, those of the rules; how.Repos is not read. What was
// asked for before holds no more, but for the repositories. Its layers that are whole in the store are queued, the others are
// indexed when they come; where all are through already, the index is listed
// when Want returns. ErrDisabled, ErrNotIndexable.
func (x *Indexer) Want(ctx context.Context, repo oci.Repo, row storage.ManifestRow, how storage.Asked) error {
	switch {
	case x.opt.Disabled:
		return ErrDisabled
	case !indexable(&row.Manifest):
		return fmt.Errorf("index %s: %w", row.Digest, ErrNotIndexable)
	case how.SpanSize < 0 || how.MinLayerSize != nil && *how.MinLayerSize < 0:
		return fmt.Errorf("index %s: a size below 0: %w", row.Digest, errors.ErrUnsupported)
	}
	subject := v1.Descriptor{MediaType: row.Manifest.MediaType, Digest: row.Digest, Size: row.Size}
	err := x.note(ctx, row.Digest, func(img *storage.ImageRow) []v1.Descriptor {
		img.Manifest = subject
		if !slices.Contains(img.Repos, repo) {
			img.Repos = append(img.Repos, repo)
		}
		ask(img, repo, how)
		return row.Manifest.Layers
	})
	if err == nil {
		err = x.revive(ctx, row.Digest)
	}
	if err != nil {
		return fmt.Errorf("note image %s: %w", row.Digest, err)
	}
	return x.tryWider(ctx, row.Digest)
}

// ask notes in an image's row what Want is told, and that it is withdrawn from
// repo no more.
func ask(img *storage.ImageRow, repo oci.Repo, how storage.Asked) {
	how.Repos = []oci.Repo{repo}
	if img.Asked != nil {
		for _, r := range img.Repos {
			if r != repo && img.Asked.In(r) {
				how.Repos = append(how.Repos, r)
			}
		}
	}
	if img.Withdrawn {
		img.Withdrawn, img.WithdrawnIn = false, slices.Clone(img.Repos)
	}
	img.WithdrawnIn = slices.DeleteFunc(slices.Clone(img.WithdrawnIn), func(r oci.Repo) bool { return r == repo })
	if len(img.WithdrawnIn) == 0 {
		img.WithdrawnIn = nil
	}
	img.Asked = &how
}

// revive has those jobs of an image begin anew that were given up or cancelled.
func (x *Indexer) revive(ctx context.Context, manifest digest.Digest) error {
	var dead []storage.JobRow
	look := func(tx storage.Tx) error {
		dead = nil
		img, err := tx.Image(manifest)
		if err != nil {
			return ignoreNotFound(err)
		}
		for i := range img.Layers {
			l := &img.Layers[i]
			job, err := tx.Job(l.Descriptor.Digest, l.SpanSize)
			if err == nil && (job.Failed || job.Cancelled) {
				job.Attempts, job.NotBefore, job.Failed, job.Cancelled = 0, time.Time{}, false, false
				dead = append(dead, job)
			} else if err = ignoreNotFound(err); err != nil {
				return err
			}
		}
		return nil
	}
	if err := x.store.View(ctx, look); err != nil || len(dead) == 0 {
		return err
	}
	defer wake(x.toLease)
	return x.store.Update(ctx, func(tx storage.Tx) error {
		err := look(tx)
		for _, job := range dead {
			err = errors.Join(err, tx.PutJob(job))
		}
		return err
	})
}

// Progress is how many compressed bytes of a layer the build at work has read, 0
// when none is.
func (x *Indexer) Progress(layer digest.Digest, spanSize int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := x.claimed[key{layer, spanSize}]; n != nil {
		return n.Load()
	}
	return 0
}

// counter counts what the build of k, which is claimed, has read.
func (x *Indexer) counter(k key) *atomic.Int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.claimed[k]
	if n == nil {
		n = new(atomic.Int64)
	}
	n.Store(0) // what an attempt before read
	return n
}

// Wake has the queue looked at again: somebody else changed its rows.
func (x *Indexer) Wake() {
	wake(x.toLease)
	wake(x.toTask)
	wake(x.toStop)
}
