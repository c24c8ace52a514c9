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
	// settle is how long changes are collected before the table follows; where to
	// follow takes long it rests as much longer as to take less than a hundredth of
	// one processor, but for a minute at most.
	settle   = 2 * time.Second
	rest     = 120
	mostRest = time.Minute
	// lookAgain is when a config that was not here is looked for again.
	lookAgain = 10 * time.Second
)

// Catalog is the table and who keeps it. It is safe for concurrent use.
type Catalog struct {
	watch   *Watch
	blobs   Opener
	log     *slog.Logger
	now     atomic.Pointer[table]
	ready   atomic.Bool
	unnamed unnamed // Run's alone
}

// New makes a Catalog of what is written through w. blobs are where configs are
// read for the platforms of images that have no other word of it; nil: they are
// not. A nil log discards.
func New(w *Watch, blobs Opener, log *slog.Logger) *Catalog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{watch: w, blobs: blobs, log: log, unnamed: unnamed{}}
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
	now := c.now.Load()
	now.mu.RLock()
	defer now.mu.RUnlock()
	return now.totals, c.ready.Load()
}

// Run fills the table and has it follow the rows until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.load(ctx)
		wait := settle
		for err == nil && ctx.Err() == nil {
			if err = c.await(ctx, wait); err == nil {
				began := time.Now()
				err = c.follow(ctx, c.take())
				wait = max(settle, min(rest*time.Since(began), mostRest))
			}
		}
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "images not listed; they are read anew", "err", err)
			pause(ctx, time.Minute)
		}
	}
	return nil
}

// await returns when there is something to follow, and no sooner than after wait.
func (c *Catalog) await(ctx context.Context, wait time.Duration) error {
	var again <-chan time.Time
	if len(c.unnamed) > 0 {
		t := time.NewTimer(max(lookAgain, wait))
		defer t.Stop()
		again = t.C
	}
	select {
	case <-c.watch.wake:
		pause(ctx, wait)
	case <-again:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// take gives what is to be looked at.
func (c *Catalog) take() changes {
	ch := c.watch.take()
	if ch.images == nil {
		ch.images = map[digest.Digest]struct{}{}
	}
	for d := range c.unnamed {
		ch.images[d] = struct{}{}
	}
	return ch
}

// load reads all images. It rests as long as it works, since nobody waits for it;
// what is read meanwhile is shown.
func (c *Catalog) load(ctx context.Context) error {
	c.ready.Store(false)
	began, next := time.Now(), newTable()
	clear(c.unnamed)
	if c.now.Load().images() == 0 {
		c.now.Store(next)
	}
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
		if all = all[n:]; len(grown) >= next.images()/4+batch || len(all) == 0 {
			next.apply(grown) // ever larger steps, so that all are merged a few times at most
			clear(grown)
		}
		pause(ctx, duty*time.Since(start))
	}
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	c.now.Store(next)
	c.ready.Store(true)
	c.log.DebugContext(ctx, "images listed", "images", next.images(), "dur", time.Since(began))
	return nil
}

// read puts the images of manifests into out, nil for what is none any more.
func (c *Catalog) read(ctx context.Context, manifests []digest.Digest, out map[digest.Digest]*Image) error {
	configs := map[digest.Digest]digest.Digest{} // of images whose platform no row says
	err := c.watch.View(ctx, func(tx storage.Tx) error {
		clear(configs)
		for _, d := range manifests {
			x, ok, err := Of(tx, d)
			if err != nil {
				return err
			}
			if out[d] = x; !ok {
				out[d] = nil
				continue
			}
			if x.Platform != "" {
				continue
			}
			m, err := tx.Manifest(d)
			switch {
			case err == nil && m.Manifest.Config != nil:
				configs[d] = m.Manifest.Config.Digest
			case err != nil && !errors.Is(err, storage.ErrNotFound):
				return err
			}
		}
		return ctx.Err()
	})
	for _, d := range manifests {
		known := true
		if config, ok := configs[d]; ok && err == nil {
			out[d].Platform, known = c.platform(ctx, config)
		}
		c.unnamed.note(d, known)
	}
	return err
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
		c.now.Load().apply(change)
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
