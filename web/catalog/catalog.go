package catalog

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

const (
	// batch is how many images are read in one transaction.
	batch = 500
	// duty is how much longer than it works the first reading rests: it takes half
	// of one processor at most, for some ten seconds where there are 100,000 images.
	duty = 1
	// settle is how long changes are collected before the table follows.
	settle = 2 * time.Second
)

// Catalog is the table and who keeps it. It is safe for concurrent use.
type Catalog struct {
	watch *Watch
	log   *slog.Logger
	now   atomic.Pointer[table]
	ready atomic.Bool
}

// New makes a Catalog of what is written through w; a nil log discards.
func New(w *Watch, log *slog.Logger) *Catalog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{watch: w, log: log}
	c.now.Store(newTable())
	return c
}

// Page gives a part of the table as it is now.
func (c *Catalog) Page(q Query) Page {
	if q.Sort == "" {
		q.Sort = ByReference
	}
	p := c.now.Load().page(q)
	p.Loading = !c.ready.Load()
	return p
}

// Totals are sums over the table, and whether it is complete.
func (c *Catalog) Totals() (t Totals, complete bool) {
	return c.now.Load().totals, c.ready.Load()
}

// Run fills the table and has it follow the rows until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.load(ctx)
		for err == nil {
			select {
			case <-c.watch.wake:
				pause(ctx, settle)
				err = c.follow(ctx, c.watch.take())
			case <-ctx.Done():
				return nil
			}
		}
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "images not listed; they are read anew", "err", err)
			pause(ctx, time.Minute)
		}
	}
	return nil
}

// load reads all images. It rests as long as it works, since nobody waits for it;
// what is read meanwhile is shown.
func (c *Catalog) load(ctx context.Context) error {
	c.ready.Store(false)
	began, next := time.Now(), newTable()
	first := len(c.now.Load().by[ByReference]) == 0
	var all []digest.Digest
	err := c.watch.View(ctx, func(tx storage.Tx) error {
		all = all[:0]
		return tx.ImageDigests(func(d digest.Digest) error {
			all = append(all, d)
			return ctx.Err()
		})
	})
	grown := map[digest.Digest]*Image{}
	for len(all) > 0 && err == nil && ctx.Err() == nil {
		start := time.Now()
		n := min(batch, len(all))
		err = c.read(ctx, all[:n], grown)
		if all = all[n:]; len(grown) >= len(next.by[ByReference])/4+batch || len(all) == 0 {
			next = next.with(grown) // ever larger steps, so that all are merged a few times at most
			grown = map[digest.Digest]*Image{}
			if first {
				c.now.Store(next)
			}
		}
		pause(ctx, duty*time.Since(start))
	}
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	c.now.Store(next)
	c.ready.Store(true)
	c.log.DebugContext(ctx, "images listed", "images", next.totals.Images, "dur", time.Since(began))
	return nil
}

// read puts the images of manifests into out, nil for what is none any more.
func (c *Catalog) read(ctx context.Context, manifests []digest.Digest, out map[digest.Digest]*Image) error {
	return c.watch.View(ctx, func(tx storage.Tx) error {
		for _, d := range manifests {
			x, ok, err := Of(tx, d)
			if err != nil {
				return err
			}
			if !ok {
				x = nil
			}
			out[d] = x
		}
		return ctx.Err()
	})
}

// follow has the table follow what changed.
func (c *Catalog) follow(ctx context.Context, ch changes) error {
	if ch.none() {
		return nil
	}
	images := map[digest.Digest]struct{}{}
	err := c.watch.View(ctx, func(tx storage.Tx) error { return touched(tx, ch, images) })
	if err != nil {
		return err
	}
	list := make([]digest.Digest, 0, len(images))
	for d := range images {
		list = append(list, d)
	}
	change := map[digest.Digest]*Image{}
	for len(list) > 0 {
		n := min(batch, len(list))
		if err := c.read(ctx, list[:n], change); err != nil {
			return err
		}
		list = list[n:]
	}
	if len(change) > 0 {
		c.now.Store(c.now.Load().with(change))
	}
	return nil
}

// touched finds the images that changes are about.
func touched(tx storage.Tx, ch changes, images map[digest.Digest]struct{}) error {
	for d := range ch.images {
		images[d] = struct{}{}
	}
	for d := range ch.layers {
		err := tx.ImagesOf(d, func(row storage.ImageRow) error {
			images[row.Manifest.Digest] = struct{}{}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for d := range ch.manifests {
		images[d] = struct{}{}
		row, err := tx.Manifest(d)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for i := range row.Manifest.Manifests {
			images[row.Manifest.Manifests[i].Digest] = struct{}{}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
