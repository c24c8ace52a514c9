package learn

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

const (
	// tick is how often it is looked which starts are over.
	tick = time.Second
	// review is how often it is looked what has expired, and which rounds are due.
	review = time.Hour
)

// Run watches starts until ctx ends. Those that are not over by then are
// forgotten.
func (l *Learner) Run(ctx context.Context) error {
	l.publishAll(ctx)
	s := newStarts(l.policy.Window)
	ticks, reviews := time.NewTicker(tick), time.NewTicker(review)
	defer ticks.Stop()
	defer reviews.Stop()
	for {
		select {
		case e := <-l.events:
			l.see(ctx, s, e)
		case <-ticks.C:
			l.m.watched.Set(float64(len(s.by)))
			l.watch.sweep(l.now())
			l.file(ctx, s.finished(l.now()))
		case <-reviews.C:
			l.reviewAll(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// see takes one request into account.
func (l *Learner) see(ctx context.Context, s *starts, e event) {
	if e.manifest != "" {
		l.getReady(ctx, s, &e)
		return
	}
	x, err := l.layers.of(ctx, e.layer, e.at)
	if err != nil {
		l.fault(ctx, "a read was not noticed", e.layer, err)
		return
	}
	if len(x.zTOCs) == 0 {
		return
	}
	head := false
	err = l.store.View(ctx, func(tx storage.Tx) error {
		s.read(e.client, e.layer, e.at, func(spanSize int64) (first, last int) {
			t, err := l.layers.table(tx, e.layer, spanSize)
			if err != nil || t == nil {
				return 0, -1
			}
			return t.Cover(e.r.Off, e.r.End)
		})
		for spanSize := range x.zTOCs {
			t, err := l.layers.table(tx, e.layer, spanSize)
			if err != nil {
				return err
			}
			head = head || t != nil && e.r.Off == 0 && e.r.End == t.HeadEnd()
		}
		return nil
	})
	if err == nil && head {
		l.mounted(ctx, s, e, x)
	}
	l.fault(ctx, "a read was not noticed", e.layer, err)
}

// probe is how many of a layer's first bytes clients read to see whether it is
// there, now and again.
const probe = 2

// mounted notes that a client has read the header of a layer, as it does when it
// mounts it. Where no index was asked for, because it was known already, that
// tells of a start by itself, if the layer is of one image alone. Whether the
// client has what was learnt is not known then; it is taken to.
func (l *Learner) mounted(ctx context.Context, s *starts, e event, x *known) {
	s.mounted(e.client, e.layer, e.at)
	if len(x.images) != 1 {
		return
	}
	img, _, err := l.look(ctx, x.images[0])
	if err != nil {
		l.fault(ctx, "a start was not noticed", x.images[0], err)
		return
	}
	if _, asked := s.by[startKey{e.client, x.images[0]}]; !asked {
		l.getReadyFor(s, &e, &img, img.Learned != nil)
	}
}

func (l *Learner) getReady(ctx context.Context, s *starts, e *event) {
	img, _, err := l.look(ctx, e.manifest)
	if err != nil {
		l.fault(ctx, "a start was not noticed", e.manifest, err)
		return
	}
	l.getReadyFor(s, e, &img, e.offered)
}

func (l *Learner) getReadyFor(s *starts, e *event, img *storage.ImageRow, offered bool) {
	layers := indexedLayers(img)
	if len(layers) == 0 {
		return
	}
	if s.getReady(startKey{e.client, img.Manifest.Digest}, e.caller, layers, offered, e.at) {
		l.m.dropped.Inc()
	}
}

// file adds starts that are over to the rows, and settles what follows.
func (l *Learner) file(ctx context.Context, over []*observed) {
	if len(over) == 0 {
		return
	}
	var changed []digest.Digest
	var kinds []string
	err := l.store.Update(ctx, func(tx storage.Tx) error {
		changed, kinds = changed[:0], kinds[:0]
		rows := map[digest.Digest]*storage.LearnRow{}
		var order []digest.Digest
		for _, o := range over {
			row := rows[o.manifest]
			if row == nil {
				got, err := tx.Learn(o.manifest)
				if err = ignoreAbsent(err); err != nil {
					return err
				}
				got.Manifest = o.manifest
				row = &got
				rows[o.manifest], order = row, append(order, o.manifest)
			}
			kind, err := l.count(tx, row, o)
			if err != nil {
				return err
			}
			kinds = append(kinds, kind)
		}
		for _, d := range order {
			new, err := l.settle(tx, rows[d])
			if err != nil {
				return err
			}
			if new {
				changed = append(changed, d)
			}
		}
		return nil
	})
	if err != nil {
		l.fault(ctx, "starts not filed", over[0].manifest, err)
		return
	}
	for _, kind := range kinds {
		l.m.starts.WithLabelValues(kind).Inc()
	}
	l.publish(ctx, changed)
}

// count adds a start to the row of its image, and says how it was taken.
func (l *Learner) count(tx storage.Tx, row *storage.LearnRow, o *observed) (kind string, err error) {
	img, err := tx.Image(o.manifest)
	if err = ignoreAbsent(err); err != nil {
		return "", err
	}
	if o.total, err = l.layers.total(tx, &img); err != nil {
		return "", err
	}
	size := l.layers.spanSizes(tx, &img)
	o.bytes = 0 // a transaction may be run again
	for k := range o.reads {
		n, _, err := size(k)
		if err != nil && !errors.Is(err, errNotNow) {
			return "", err
		}
		o.bytes += n
	}
	return l.policy.count(row, o), nil
}

// settle ends an image's round where that is due, and puts its row. An image that
// is here no more has none.
func (l *Learner) settle(tx storage.Tx, row *storage.LearnRow) (changed bool, err error) {
	img, err := tx.Image(row.Manifest)
	if errors.Is(err, storage.ErrNotFound) || err == nil && len(img.Repos) == 0 {
		return false, tx.DeleteLearn(row.Manifest)
	}
	if err != nil {
		return false, err
	}
	changed, err = l.policy.settle(row, l.now(), l.layers.spanSizes(tx, &img))
	if err != nil && !errors.Is(err, errNotNow) {
		return false, err
	}
	return changed, tx.PutLearn(*row)
}

func (l *Learner) publish(ctx context.Context, changed []digest.Digest) {
	for _, d := range changed {
		l.m.rounds.Inc()
		l.log.InfoContext(ctx, "learnt what an image's starts read", "digest", d)
		if l.opt.Publish != nil {
			l.opt.Publish(ctx, d)
		}
	}
}

// publishAll sees to it that what was learnt is offered: the process may have
// ended in between.
func (l *Learner) publishAll(ctx context.Context) {
	all, err := l.manifests(ctx)
	l.fault(ctx, "what was learnt is not looked at", "", err)
	for _, d := range all {
		if l.opt.Publish != nil && ctx.Err() == nil {
			l.opt.Publish(ctx, d)
		}
	}
}

// reviewAll forgets what has expired, and ends rounds that became due without a
// start.
func (l *Learner) reviewAll(ctx context.Context) {
	all, err := l.manifests(ctx)
	l.fault(ctx, "what was learnt is not looked at", "", err)
	for _, d := range all {
		var changed bool
		err := l.store.Update(ctx, func(tx storage.Tx) error {
			changed = false
			row, err := tx.Learn(d)
			if err != nil {
				return ignoreAbsent(err)
			}
			changed, err = l.settle(tx, &row)
			return err
		})
		l.fault(ctx, "what was learnt is not looked at", d, err)
		switch {
		case err != nil:
		case changed:
			l.publish(ctx, []digest.Digest{d})
		case l.opt.Publish != nil: // the index may have been lost, and taken off
			l.opt.Publish(ctx, d)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (l *Learner) manifests(ctx context.Context) (all []digest.Digest, err error) {
	err = l.store.View(ctx, func(tx storage.Tx) error {
		all = nil
		return tx.AllLearn(func(row storage.LearnRow) error {
			all = append(all, row.Manifest)
			return ctx.Err()
		})
	})
	return all, err
}
