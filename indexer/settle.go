package indexer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// settle files what became of k, then publishes the images that waited for it.
func (x *Indexer) settle(ctx context.Context, k key, c compression, o *outcome) error {
	var err error
	switch {
	case o.refused != nil:
		err = x.skip(ctx, k, func(tx storage.Tx, row *storage.LayerRow) error {
			return x.refuse(tx, k, row, c, o.refused)
		})
	case o.built.rejected != "":
		err = x.skip(ctx, k, func(_ storage.Tx, row *storage.LayerRow) error {
			row.State, row.Reason = storage.LayerSkipped, ReasonClientRejects+": "+clip(o.built.rejected)
			return nil
		})
	default:
		err = x.keep(ctx, k, o)
	}
	if err != nil {
		return fmt.Errorf("settle layer %s: %w", k.layer, err)
	}
	return x.publishImages(ctx, k.layer)
}

// refuse notes why the layer can't be read as c. It stays wanted while another
// image says that it is to be read in another way.
func (x *Indexer) refuse(tx storage.Tx, k key, row *storage.LayerRow, c compression, r *refusal) error {
	reason := clip(x.limits.Refusal(c.ztoc(), r.err))
	if ReasonWord(reason) == ReasonTooLarge {
		row.Limits = (*storage.Limits)(&x.limits)
	}
	if wasRead(row.Reason) {
		_, why, _ := strings.Cut(reason, ": ")
		_, before, _ := strings.Cut(row.Reason, ": ")
		reason = ReasonMalformed + ": " + before + "; " + why
		if row.Limits != nil {
			reason = ReasonTooLarge + ": " + before + "; " + why
		}
	}
	row.Reason = reason
	other, err := untried(tx, k, row.Reason)
	if err == nil && other == "" {
		row.State = storage.LayerSkipped
	}
	return err
}

// wasTried reports whether a reason that refuse wrote covers c.
func wasTried(reason string, c compression) bool {
	return wasRead(reason) && strings.Contains(reason, " as "+string(c)+", ")
}

// wasRead reports reasons that only a layer's bytes can give.
func wasRead(reason string) bool {
	word := ReasonWord(reason)
	return word == ReasonMalformed || word == ReasonTooLarge
}

func clip(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// skip changes the layer's row by set, and ends its job; errAgain when set left
// it wanted.
func (x *Indexer) skip(ctx context.Context, k key, set func(storage.Tx, *storage.LayerRow) error) error {
	var row storage.LayerRow
	var done, had bool
	err := x.store.Update(ctx, func(tx storage.Tx) (err error) {
		done, had = false, false
		row, err = tx.Layer(k.layer, k.spanSize)
		if err != nil || row.State != storage.LayerWanted {
			return ignoreNotFound(err)
		}
		if err = set(tx, &row); err != nil {
			return err
		}
		if err = tx.PutLayer(row); err != nil || row.State == storage.LayerWanted {
			return err
		}
		done = true
		if err = x.tellSkipped(tx, &row); err != nil {
			return err
		}
		had, err = deleteJob(tx, k)
		return err
	})
	if err != nil {
		return err
	}
	if had {
		x.m.queued.Dec()
	}
	if row.State == storage.LayerWanted {
		return errAgain
	}
	if !done {
		return nil
	}
	x.m.builds.WithLabelValues(resultSkipped).Inc()
	x.m.skipped.WithLabelValues(ReasonWord(row.Reason)).Inc()
	x.log.InfoContext(ctx, "layer left out", "digest", k.layer, "reason", row.Reason)
	return nil
}

// keep stores the zTOC, and then, in one transaction, says that it is the
// layer's.
func (x *Indexer) keep(ctx context.Context, k key, o *outcome) error {
	b := o.built
	now := x.now().UTC()
	blob := storage.BlobRow{Digest: b.digest, Size: b.size, Kind: storage.KindZTOC, Of: k.layer, Created: now, Accessed: now}
	if err := x.write(ctx, blob, b.body); err != nil {
		return fmt.Errorf("store zTOC: %w", err)
	}
	var filed, had bool
	err := x.store.Update(ctx, func(tx storage.Tx) (err error) {
		if err = shareZTOC(tx, b.digest, k.layer); err != nil {
			return err
		}
		filed, had, err = putIndexed(tx, k, o, storage.LayerRow{
			Digest: k.layer, SpanSize: k.spanSize, Size: b.layerSize, State: storage.LayerIndexed,
			ZTOC: b.digest, ZTOCSize: b.size, Spans: b.spans, DiffID: b.diffID, Head: o.head,
			Built: now, BuildTime: o.spent,
		})
		return err
	})
	if err != nil {
		return err
	}
	if !filed {
		_, err := x.store.PurgeUnneeded(ctx, b.digest, func(tx storage.Tx) (bool, error) { return isLayers(tx, b.digest) })
		return err
	}
	if had {
		x.m.queued.Dec()
	}
	x.m.builds.WithLabelValues(resultIndexed).Inc()
	x.log.DebugContext(ctx, "layer indexed", "digest", k.layer, "ztoc", b.digest, "bytes", b.layerSize, "dur", o.spent)
	return nil
}

// write stores a blob durably.
func (x *Indexer) write(ctx context.Context, row storage.BlobRow, body io.WriterTo) error {
	w, err := x.store.Create(ctx)
	if err != nil {
		return err
	}
	err = w.Reserve(ctx, row.Size)
	if err == nil {
		_, err = body.WriteTo(w)
	}
	if err == nil {
		err = w.Commit(ctx, row, storage.Durable)
	}
	return errors.Join(err, w.Close())
}

// putIndexed files a layer's zTOC, unless nobody wants the layer any more, and
// reports whether a job ended with it.
func putIndexed(tx storage.Tx, k key, o *outcome, row storage.LayerRow) (filed, had bool, err error) {
	if _, err := tx.Layer(k.layer, k.spanSize); err != nil {
		return false, false, ignoreNotFound(err)
	}
	if err := tx.PutLayer(row); err != nil {
		return false, false, err
	}
	if err := tx.PutSpans(k.layer, k.spanSize, o.built.table); err != nil {
		return false, false, err
	}
	if err := tx.DeleteImported(k.layer); err != nil { // what a bundle said of it is of no use any more
		return false, false, err
	}
	had, err = deleteJob(tx, k)
	return true, had, err
}

// shareZTOC gives the repositories that have layer the right to a zTOC whose
// row names another layer. The right to read a zTOC follows from that to the
// layer that its row names, but layers that differ in their gzip header alone,
// say in its time, have the same one.
func shareZTOC(tx storage.Tx, d, layer digest.Digest) error {
	row, err := tx.Blob(d)
	if err != nil || row.Of == layer {
		return err
	}
	repos, err := reposOf(tx, layer)
	for _, r := range repos {
		if err == nil {
			err = tx.PutRight(r, d)
		}
	}
	return err
}

func reposOf(tx storage.Tx, d digest.Digest) (repos []oci.Repo, err error) {
	err = tx.RightRepos(d, func(r oci.Repo) error {
		repos = append(repos, r)
		return nil
	})
	return repos, err
}
