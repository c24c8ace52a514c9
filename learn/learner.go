package learn

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Options are what New needs. Only Store is required.
type Options struct {
	Store      Store
	Policy     Policy
	Publish    Publish                      // nil: nothing is published
	Warm       Warm                         // nil: nothing is brought here
	Who        func(r *http.Request) string // the name of a request's caller, "" for nobody; nil: they have none
	Logger     *slog.Logger                 // nil: nothing is logged
	Registerer prometheus.Registerer        // nil: nothing is measured
	Now        func() time.Time             // nil: time.Now
}

// Learner watches starts and learns from them. All methods are safe for
// concurrent use; but for Run, none of them waits.
type Learner struct {
	opt    Options
	policy Policy
	store  Store
	log    *slog.Logger
	m      *metrics
	now    func() time.Time
	layers *layers
	watch  *watch
	events chan event
}

// maxEvents is how many requests may wait to be looked at, some 100 bytes each.
const maxEvents = 8192

// event is a request, as far as it matters here: for an index, where manifest is
// set, else for bytes of a layer.
type event struct {
	client   client
	caller   client
	at       time.Time
	manifest digest.Digest // of the image
	offered  bool
	layer    digest.Digest
	r        oci.Range
}

// New makes a Learner. It does nothing by itself until Run.
func New(o Options) *Learner {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Learner{
		opt: o, policy: o.Policy.complete(), store: o.Store, log: o.Logger, now: o.Now, m: newMetrics(o.Registerer),
		layers: newLayers(o.Store), watch: newWatch(o.Policy.complete().Window), events: make(chan event, maxEvents),
	}
	return l
}

// Read is told that the client of r reads ranges of the blob d.
func (l *Learner) Read(r *http.Request, d digest.Digest, ranges ...oci.Range) {
	if oci.StartsNothing(r) {
		return
	}
	e := event{client: clientOf(r, l.opt.Who), caller: callerOf(r, l.opt.Who), at: l.now(), layer: d}
	for _, e.r = range ranges {
		switch {
		case e.r.Off == 0 && e.r.End <= probe: // it looks whether the layer is there
		case e.r.Off == 0 && e.r.End <= maxHead: // it may be mounting the layer
			l.sendFrom(e)
		case l.watch.watches(e.client, e.at):
			l.send(e)
		}
	}
}

// maxHead is more than a layer's gzip header has, if it is any of today's.
const maxHead = 64 << 10

// sendFrom has what e's client reads next be of interest, and sends e.
func (l *Learner) sendFrom(e event) {
	if !l.watch.begin(e.client, e.at) {
		l.m.dropped.Inc()
		return
	}
	l.send(e)
}

func (l *Learner) send(e event) {
	select {
	case l.events <- e:
	default:
		l.m.dropped.Inc()
	}
}

// Offer chooses which SOCI v1 index of the image manifest subject the client of r
// is offered: plain, or the one with what was learnt. asked says that it asks for
// that alone: then its start is near, and what it will read is brought here.
func (l *Learner) Offer(r *http.Request, repo oci.Repo, subject digest.Digest, plain v1.Descriptor, asked bool) v1.Descriptor {
	c, now := clientOf(r, l.opt.Who), l.now()
	img, row, err := l.look(r.Context(), subject)
	if err != nil {
		l.fault(r.Context(), "what was learnt is not offered", subject, err)
		return plain
	}
	out := plain
	if img.Learned != nil && img.Index == plain.Digest && !l.policy.sampled(c, subject, row.Confirmed, now) {
		out.Digest, out.Size = img.Learned.Index, img.Learned.Size
	}
	if asked && !oci.StartsNothing(r) {
		l.m.offered(img.Learned != nil, out.Digest != plain.Digest)
		l.sendFrom(event{client: c, caller: callerOf(r, l.opt.Who), at: now, manifest: subject, offered: out.Digest != plain.Digest})
		l.warm(r, repo, &img, &row)
	}
	return out
}

// Manifest is told that the client of r was sent the manifest d, which was made
// here. Where it is a SOCI index, or an image manifest that names one, its start
// is near.
func (l *Learner) Manifest(r *http.Request, repo oci.Repo, d digest.Digest) {
	if oci.StartsNothing(r) {
		return
	}
	var subject digest.Digest
	var offered bool
	err := l.store.View(r.Context(), func(tx storage.Tx) (err error) {
		subject, offered, err = aboutStart(tx, d)
		return err
	})
	if err != nil || subject == "" {
		l.fault(r.Context(), "a start was not noticed", d, err)
		return
	}
	img, row, err := l.look(r.Context(), subject)
	if err != nil {
		l.fault(r.Context(), "a start was not noticed", d, err)
		return
	}
	l.sendFrom(event{client: clientOf(r, l.opt.Who), caller: callerOf(r, l.opt.Who), at: l.now(), manifest: subject, offered: offered})
	l.warm(r, repo, &img, &row)
}

// aboutStart finds of which image's start the request for a manifest that was
// made here tells, and whether the index that its client has by it names
// prefetch artifacts.
func aboutStart(tx storage.Tx, d digest.Digest) (subject digest.Digest, offered bool, err error) {
	row, err := tx.Manifest(d)
	if err != nil {
		return "", false, ignoreAbsent(err)
	}
	m := &row.Manifest
	if m.Subject != nil && m.ArtifactType == oci.MediaTypeSOCIIndexV1 {
		return m.Subject.Digest, prefetches(m), nil
	}
	index := digest.Digest(m.Annotations[annotationIndexDigest])
	if index == "" {
		return "", false, nil
	}
	blob, err := tx.Blob(d)
	if err != nil {
		return "", false, ignoreAbsent(err)
	}
	soci, err := tx.Manifest(index)
	return blob.Of, err == nil && prefetches(&soci.Manifest), ignoreAbsent(err)
}

// annotationIndexDigest is how the manifest of a SOCI v2 image names its index.
const annotationIndexDigest = "com.amazon.soci.index-digest"

func prefetches(m *oci.Manifest) bool {
	for i := range m.Layers {
		if m.Layers[i].MediaType == oci.MediaTypeSOCIPrefetch {
			return true
		}
	}
	return false
}

// look reads what is known of an image; the rows are empty where nothing is.
func (l *Learner) look(ctx context.Context, subject digest.Digest) (img storage.ImageRow, row storage.LearnRow, err error) {
	err = l.store.View(ctx, func(tx storage.Tx) (err error) {
		if img, err = tx.Image(subject); err != nil {
			return ignoreAbsent(err)
		}
		row, err = tx.Learn(subject)
		return ignoreAbsent(err)
	})
	return img, row, err
}

// warm has what was learnt of an image be here.
func (l *Learner) warm(r *http.Request, repo oci.Repo, img *storage.ImageRow, row *storage.LearnRow) {
	if l.opt.Warm == nil || len(row.Learnt) == 0 {
		return
	}
	var ranges []storage.LayerRange
	err := l.store.View(r.Context(), func(tx storage.Tx) (err error) {
		ranges, err = l.layers.ranges(tx, img, row)
		return err
	})
	l.fault(r.Context(), "what was learnt is not brought here", row.Manifest, err)
	if err == nil && len(ranges) > 0 {
		l.opt.Warm(r, repo, row.Manifest, ranges)
	}
}

func (l *Learner) fault(ctx context.Context, what string, d digest.Digest, err error) {
	if err != nil && ctx.Err() == nil {
		l.log.WarnContext(ctx, what, "digest", d, "err", err) //nolint:sloglint // a constant of each caller's
	}
}

func ignoreAbsent(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}
