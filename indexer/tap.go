package indexer

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// maxPendingTaps bounds what is remembered until dispatch looks at it.
const maxPendingTaps = 1024

// tapRequest is one call of Tap.
type tapRequest struct {
	digest digest.Digest
	open   func() (io.ReadCloser, error)
}

// Tap says that a fetch of the whole blob d, of size bytes (-1: unknown),
// begins. It never blocks. If d is a layer that is wanted, and fewer than
// MaxTaps run, the layer is indexed from the stream; else nothing happens and
// the layer is taken from the store once Whole was called.
//
// open is called at most once a span size that is wanted, from another
// goroutine. Its reader gives the blob's bytes from the first as they arrive,
// waiting where there is none yet, and io.EOF only after the whole blob was
// found to match d. Any other error means that this will not come to pass.
// Close may be called while Read waits, and makes it return.
func (x *Indexer) Tap(d digest.Digest, size int64, open func() (io.ReadCloser, error)) {
	if x.opt.Disabled || size == 0 {
		return
	}
	x.mu.Lock()
	full := len(x.taps) >= maxPendingTaps
	if !full {
		x.taps = append(x.taps, tapRequest{d, open})
	}
	x.mu.Unlock()
	if full {
		x.m.tapsDropped.Inc()
		return
	}
	wake(x.toDo)
}

// startTaps starts one tap for each span size at which the layer is wanted.
func (x *Indexer) startTaps(ctx context.Context, running *sync.WaitGroup, t tapRequest) {
	var wanted []key
	err := x.store.View(ctx, func(tx storage.Tx) error {
		return tx.Layers(t.digest, func(row storage.LayerRow) error {
			if row.State == storage.LayerWanted {
				wanted = append(wanted, key{row.Digest, row.SpanSize})
			}
			return nil
		})
	})
	if err != nil {
		x.log.WarnContext(ctx, "tap not started", "digest", t.digest, "err", err)
		return
	}
	for _, k := range wanted {
		if !x.claim(k) {
			continue
		}
		if !x.slot(running, nil, func() { x.tap(ctx, k, t.open) }) {
			x.m.tapsDropped.Inc()
			x.release(k)
		}
	}
}

// tap indexes a layer from its stream. Whatever goes wrong, the layer stays
// wanted: if it is whole in the store by now, a job takes over, else whoever
// fetches it next.
func (x *Indexer) tap(ctx context.Context, k key, open func() (io.ReadCloser, error)) {
	err := x.index(ctx, k, source{open: open})
	x.release(k)
	if err == nil {
		return
	}
	if !errors.Is(err, errAgain) {
		x.m.builds.WithLabelValues(resultDropped).Inc()
		x.log.DebugContext(ctx, "tap dropped", "digest", k.layer, "err", err)
	}
	x.Whole(k.layer) // if it is not, this changes nothing
}
