package indexer

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// buildRate is what a build reads of a layer a second at least, as far as a
// guess about its end goes, until builds were measured.
const buildRate = 50 << 20

// Flight tells of the fetch of a whole blob that is under way: what is missing,
// and how fast it comes, 0 while that is not known. ok is false where none is.
type Flight func(d digest.Digest) (missing int64, bytesPerSecond float64, ok bool)

// Coming says whether a SOCI v1 index of the image manifest d that is not listed
// yet in repo will certainly be, and about when: every layer that is wanted of it is
// whole in the store and queued or being built, or in flight. It is a matter of
// this moment: a fetch may still fail. Whoever asks waits, and has those of them that
// are in the store built before others.
func (x *Indexer) Coming(ctx context.Context, repo oci.Repo, d digest.Digest) (in time.Duration, ok bool, err error) {
	if x.opt.Disabled {
		return 0, false, nil
	}
	var waiting []storage.LayerRow
	err = x.store.View(ctx, func(tx storage.Tx) error {
		waiting, ok = nil, false
		img, err := tx.Image(d)
		if err != nil || img.Index != "" || !x.offersV1(&img, repo) {
			return ignoreNotFound(err)
		}
		waiting, ok, err = x.waitingFor(tx, &img)
		return err
	})
	if err != nil || !ok {
		return 0, false, err
	}
	var stored []storage.LayerRow
	for i := range waiting {
		l := &waiting[i]
		end, here, sure, err := x.layerEnd(ctx, l)
		if err != nil || !sure {
			return 0, false, err
		}
		if here {
			stored = append(stored, *l)
		}
		in = max(in, end)
	}
	return x.awaitBuilds(stored, in), true, nil
}

// waitingFor lists the layers that are wanted and not through. ok is false where
// no index can come of it: nothing is wanted, or a job was given up.
func (x *Indexer) waitingFor(tx storage.Tx, img *storage.ImageRow) (waiting []storage.LayerRow, ok bool, err error) {
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.SpanSize == 0 {
			continue
		}
		row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		switch row.State {
		case storage.LayerIndexed:
			ok = true
		case storage.LayerWanted:
			ok = true
			if job, err := tx.Job(row.Digest, row.SpanSize); err == nil && (job.Attempts > 0 || job.Cancelled) {
				return nil, false, nil // it failed before, or is not to be done: who knows
			} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, false, err
			}
			waiting = append(waiting, row)
		}
	}
	return waiting, ok, nil
}

// layerEnd guesses when a layer will be through, whatever is built before it; here says
// that it is in the store. sure is false where it may not be at all.
func (x *Indexer) layerEnd(ctx context.Context, l *storage.LayerRow) (in time.Duration, here, sure bool, err error) {
	if here, err := x.isHere(ctx, l.Digest); here || err != nil {
		return x.buildEnd(l), here, here, err
	}
	if x.opt.Flight == nil {
		return 0, false, false, nil
	}
	missing, rate, ok := x.opt.Flight(l.Digest)
	if !ok { // or it ended just now
		here, err := x.isHere(ctx, l.Digest)
		return x.buildEnd(l), here, here, err
	}
	if rate <= 0 { // it has just begun
		return 0, false, true, nil
	}
	return seconds(float64(missing) / rate), false, true, nil
}

func (x *Indexer) isHere(ctx context.Context, layer digest.Digest) (bool, error) {
	_, err := x.store.Stat(ctx, layer)
	return err == nil, ignoreNotFound(err)
}

// buildEnd guesses when a layer that is here will be through.
func (x *Indexer) buildEnd(l *storage.LayerRow) time.Duration {
	left := l.Size - x.Progress(l.Digest, l.SpanSize)
	return seconds(float64(max(left, 0)) / buildRate)
}

func seconds(s float64) time.Duration { return time.Duration(min(s, 1e6) * float64(time.Second)) }

// BringLayers begins to fetch what is wanted of the image manifest d and neither
// here nor in flight, so that its index comes without a client that pulls it. It
// does not wait for the end.
func (x *Indexer) BringLayers(ctx context.Context, repo oci.Repo, d digest.Digest) error {
	if x.opt.Disabled || x.opt.Bring == nil {
		return nil
	}
	var waiting []storage.LayerRow
	err := x.store.View(ctx, func(tx storage.Tx) error {
		img, err := tx.Image(d)
		if err != nil || img.Index != "" || !x.offersV1(&img, repo) {
			return ignoreNotFound(err)
		}
		waiting, _, err = x.waitingFor(tx, &img)
		return err
	})
	if err != nil {
		return err
	}
	for i := range waiting {
		l := &waiting[i]
		if _, err := x.store.Stat(ctx, l.Digest); err == nil {
			continue
		}
		x.opt.Bring(repo, v1.Descriptor{Digest: l.Digest, Size: l.Size})
	}
	return nil
}
