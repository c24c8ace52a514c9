package indexer

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// errNotRun is how a build ends that was asked for when no further one could be
// begun.
var errNotRun = errors.New("the build was not begun")

// Listed waits, for Options.PushWait at most, until the SOCI v1 index of the
// image manifest d is listed in repo, or is about to be within moments, where all that is
// missing for that is being built from streams of uploads: a client that has pushed an
// image then finds its index.
// It returns at once where anything else is missing, such as a layer that is in the
// queue, and as soon as one of these builds fails. Manifest comes before.
func (x *Indexer) Listed(ctx context.Context, repo oci.Repo, d digest.Digest) {
	if x.opt.Disabled || x.opt.PushWait <= 0 {
		return
	}
	builds := x.streamed()
	if len(builds) == 0 {
		return
	}
	var waiting []storage.LayerRow
	err := x.store.View(ctx, func(tx storage.Tx) error {
		waiting = nil
		img, err := tx.Image(d)
		if err != nil || img.Index != "" || !x.offersV1(&img, repo) {
			return ignoreNotFound(err)
		}
		waiting, _, err = x.waitingFor(tx, &img)
		return err
	})
	if err != nil {
		return // nobody waits for what can't be known
	}
	var of []*pushed
	for i := range waiting {
		p := builds[key{waiting[i].Digest, waiting[i].SpanSize}]
		if p == nil {
			return
		}
		p.pace.ends(waiting[i].Size)
		of = append(of, p)
	}
	late := time.NewTimer(x.opt.PushWait)
	defer late.Stop()
	for _, p := range of {
		select {
		case <-p.done:
			if p.err != nil {
				return
			}
		case <-p.pace.near:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// streamed gives what is being built from uploads, as far as it is known what
// that is.
func (x *Indexer) streamed() map[key]*pushed {
	x.mu.Lock()
	defer x.mu.Unlock()
	builds := make(map[key]*pushed, len(x.streams))
	for k, p := range x.streams {
		builds[k] = p
	}
	return builds
}
