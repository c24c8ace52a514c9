package indexer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// sniffed is how much of a blob is looked at to tell what it is: a tar header.
const sniffed = 512

// pushed is a blob that is being pushed, and whose manifest is still to come: it
// is built before anybody wants it.
type pushed struct {
	spanSize int64
	rc       io.ReadCloser

	// Guarded by Indexer.mu.
	digest  digest.Digest // "" while it is not known
	claimed bool          // the key is this build's
	taken   bool          // another build has the key
	over    bool
	heir    *slotted // what its slot goes to, ahead of its time

	since atomic.Int64 // it waits for its client since then, in Unix nanoseconds; 0: it does not
	pace  pace
	done  chan struct{} // closed when it is over, and err is set
	err   error
}

// PushSize is the size from which on a blob that is pushed to repo may be a
// layer that a rule wants; -1 where none does.
func (x *Indexer) PushSize(repo oci.Repo) int64 {
	rule := x.ruleFor(named{repo: repo})
	if x.opt.Disabled || rule == nil {
		return -1
	}
	return max(rule.MinLayerSize, sniffed)
}

// Push says that a blob of PushSize bytes or more is being pushed to repo. What
// it is, its manifest will say later; where it begins as a layer does, it is
// built from the stream, so that the result is there when the manifest comes.
// rc is as Tap's, and closed in any case, maybe twice. Whoever pushes calls the func that is
// returned with the blob's digest when its bytes were found to match it, and before
// io.EOF.
// Push never blocks.
func (x *Indexer) Push(repo oci.Repo, rc io.ReadCloser) (is func(digest.Digest)) {
	rule := x.ruleFor(named{repo: repo})
	if x.opt.Disabled || rule == nil {
		_ = rc.Close() // only read from
		return func(digest.Digest) {}
	}
	p := &pushed{spanSize: rule.spanSize(), rc: rc, done: make(chan struct{}), pace: newPace()}
	x.mu.Lock()
	full := len(x.pushes) >= maxPendingTaps
	if p.over = full; !full {
		x.pushes = append(x.pushes, p)
	}
	x.mu.Unlock()
	if full {
		x.m.tapsDropped.Inc()
		_ = rc.Close() // only read from
	}
	wake(x.toDo)
	return func(d digest.Digest) { x.identify(p, d) }
}

// identify tells p what it builds, and claims that while it is at it: so no job
// is filed for it.
func (x *Indexer) identify(p *pushed, d digest.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.over || p.digest != "" {
		return
	}
	p.digest = d
	k := key{d, p.spanSize}
	if _, p.taken = x.claimed[k]; !p.taken {
		x.claimLocked(k)
		p.claimed = true
		x.streams[k] = p
	}
}

// end has p build nothing any more, and gives its key back. err is why nothing
// came of it.
func (x *Indexer) end(p *pushed, err error) {
	x.mu.Lock()
	p.over, p.err = true, err
	claimed, k := p.claimed, key{p.digest, p.spanSize}
	if p.claimed = false; claimed {
		delete(x.streams, k)
	}
	x.mu.Unlock()
	close(p.done)
	if claimed {
		x.release(k)
	}
}

// startPush builds p, if fewer than MaxTaps builds run or one of them gives way.
func (x *Indexer) startPush(ctx context.Context, running *sync.WaitGroup, p *pushed) {
	build := func() {
		err := x.buildPushed(ctx, p)
		x.end(p, err)
		if err == nil {
			return
		}
		if !errors.Is(err, errNotWanted) {
			x.m.builds.WithLabelValues(resultDropped).Inc()
			x.log.DebugContext(ctx, "pushed blob not indexed", "digest", p.digest, "err", err)
		}
		if p.digest != "" {
			x.Whole(p.digest) // its manifest may have come meanwhile
		}
	}
	if !x.slot(running, p, build) {
		x.m.tapsDropped.Inc()
		_ = p.rc.Close() // only read from
		x.end(p, errNotRun)
	}
}

func (x *Indexer) buildPushed(ctx context.Context, p *pushed) error {
	closeOnce := sync.OnceFunc(func() { _ = p.rc.Close() }) // only read from
	defer closeOnce()
	defer context.AfterFunc(ctx, closeOnce)()
	if unwanted, err := x.unwanted(ctx, p); unwanted || err != nil {
		return errors.Join(err, errNotWanted)
	}
	head := make([]byte, sniffed)
	if _, err := io.ReadFull(x.client(p), head); err != nil {
		return fmt.Errorf("read the beginning: %w", err)
	}
	c := sniff(head)
	if c == "" {
		return errNotWanted
	}
	o, err := x.read(key{spanSize: p.spanSize}, c, -1, io.MultiReader(bytes.NewReader(head), x.client(p)), false)
	if err != nil {
		return err
	}
	if o.built != nil {
		defer o.built.body.Close()
	}
	x.m.buildSeconds.Observe(o.spent.Seconds())
	x.m.buildBytes.Add(float64(o.bytes))
	return x.settlePushed(ctx, p, c, o)
}

// unwanted reports whether p's layer, where it is known, is being built or has
// been.
func (x *Indexer) unwanted(ctx context.Context, p *pushed) (yes bool, err error) {
	x.mu.Lock()
	d, taken := p.digest, p.taken
	x.mu.Unlock()
	if d == "" || taken {
		return taken, nil
	}
	err = x.store.View(ctx, func(tx storage.Tx) error {
		row, err := tx.Layer(d, p.spanSize)
		yes = err == nil && row.State != storage.LayerWanted
		return ignoreNotFound(err)
	})
	return yes, err
}

// settlePushed files what was built. Where no manifest has asked for it yet, only
// a zTOC is filed, and no verdict: it could be no layer at all.
func (x *Indexer) settlePushed(ctx context.Context, p *pushed, c compression, o *outcome) error {
	if unwanted, err := x.unwanted(ctx, p); unwanted || err != nil {
		return errors.Join(err, errNotWanted)
	}
	k := key{p.digest, p.spanSize}
	if k.layer == "" || k.layer.Algorithm() == digest.SHA256 && o.built != nil && o.built.layer != k.layer {
		return fmt.Errorf("%w: %s", errMismatch, k.layer)
	}
	wants, _, err := x.compressionOf(ctx, k)
	switch {
	case err == nil && wants == c:
	case err == nil:
		return errAgain // its manifest reads it otherwise
	case !errors.Is(err, errNotWanted):
		return err
	case o.built == nil || o.built.rejected != "":
		return errNotWanted
	default:
		err := x.store.Update(ctx, func(tx storage.Tx) error {
			_, err := tx.Layer(k.layer, k.spanSize)
			if !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			return tx.PutLayer(storage.LayerRow{Digest: k.layer, SpanSize: k.spanSize, Size: o.built.layerSize, State: storage.LayerWanted})
		})
		if err != nil {
			return err
		}
	}
	return x.settle(ctx, k, c, o)
}

// sniff tells how a blob that begins with head is to be read, if it is a layer.
func sniff(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}): // RFC 1952 §2.3.1, deflate
		return compressionGzip
	case len(head) >= sniffed && string(head[257:262]) == "ustar":
		return compressionUncompressed
	}
	return ""
}
