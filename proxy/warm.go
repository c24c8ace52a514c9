package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// maxWarming bounds the images whose spans are brought at once.
	maxWarming = 16
	// warmChunk is about how much of an image is brought in one go. Two of them are
	// under way at most, so that a client's own question is not queued behind all
	// that its start may need later.
	warmChunk = 16 << 20
)

// Warm brings ranges of layers of an image, those that are needed first first,
// where the layers are indexed and not whole here: by the same requests to the
// upstream of repo as a client's would be, and together with them. r is the
// request because of which. It returns at once; more images than a few at once
// are left to their clients.
func (p *Proxy) Warm(r *http.Request, repo oci.Repo, image digest.Digest, ranges []storage.LayerRange) {
	up := p.routes().byName[repo.Upstream]
	if up == nil || up.Hosted || up.Offline || up.Registry == nil {
		return
	}
	if up.AsCaller != nil {
		theirs := *up
		theirs.Registry = up.AsCaller(r, repo)
		up = &theirs
	}
	key := layerKey{repo, image}
	if !p.beginWarm(key) {
		return
	}
	started := p.work.start(func() {
		defer p.endWarm(key)
		p.warm(p.life, up, repo, image, ranges)
	})
	if !started {
		p.endWarm(key)
	}
}

func (p *Proxy) beginWarm(k layerKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, at := p.warming[k]; at {
		return false
	}
	if len(p.warming) >= maxWarming {
		p.metrics.warm.WithLabelValues(warmRefused).Inc()
		return false
	}
	p.warming[k] = struct{}{}
	return true
}

func (p *Proxy) endWarm(k layerKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.warming, k)
}

// warmSpan is a span of a layer, to be brought.
type warmSpan struct {
	src *spanSource
	i   int
}

func (p *Proxy) warm(ctx context.Context, up *Upstream, repo oci.Repo, image digest.Digest, ranges []storage.LayerRange) {
	spans := p.toWarm(ctx, up, repo, ranges)
	if len(spans) == 0 {
		return
	}
	var before []warmSpan
	n := len(spans)
	for len(spans) > 0 {
		var chunk []warmSpan
		var size int64
		for len(spans) > 0 && (size == 0 || size < warmChunk) {
			s := spans[0].src.table.Span(spans[0].i)
			size += s.End - s.Off
			chunk, spans = append(chunk, spans[0]), spans[1:]
		}
		startRuns(ctx, chunk)
		if err := waitForSpans(ctx, before); err != nil {
			p.warmFailed(ctx, image, err)
			return
		}
		before = chunk
	}
	if err := waitForSpans(ctx, before); err != nil {
		p.warmFailed(ctx, image, err)
		return
	}
	p.metrics.warm.WithLabelValues(warmDone).Inc()
	p.metrics.warmSpans.Add(float64(n))
	p.log.DebugContext(ctx, "spans that a start will read are here", "repo", repo, "digest", image, "spans", n)
}

func (p *Proxy) warmFailed(ctx context.Context, image digest.Digest, err error) {
	p.metrics.warm.WithLabelValues(warmFailed).Inc()
	if ctx.Err() == nil && !errors.Is(err, errShutdown) {
		p.log.InfoContext(ctx, "what a start will read was not brought before it is asked for", "digest", image, "err", err)
	}
}

// toWarm finds the spans that are missing, by the table by which the layer's
// ranges are answered.
func (p *Proxy) toWarm(ctx context.Context, up *Upstream, repo oci.Repo, ranges []storage.LayerRange) (out []warmSpan) {
	type seen struct {
		src *spanSource // nil: nothing is to be brought
		got map[int]bool
	}
	by := map[digest.Digest]seen{}
	for _, r := range ranges {
		x, ok := by[r.Layer]
		if !ok {
			x = seen{p.warmSource(ctx, up, repo, r.Layer), map[int]bool{}}
			by[r.Layer] = x
		}
		if x.src == nil {
			continue
		}
		first, last, ok := x.src.spans(r.Range)
		for i := first; ok && i <= last; i++ {
			if x.got[i] {
				continue
			}
			x.got[i] = true
			if _, err := p.store.Stat(ctx, x.src.table.Span(i).Digest); err != nil {
				out = append(out, warmSpan{x.src, i})
			}
		}
	}
	return out
}

// warmSource is how ranges of a layer are answered, if that is by its spans.
func (p *Proxy) warmSource(ctx context.Context, up *Upstream, repo oci.Repo, layer digest.Digest) *spanSource {
	st, err := p.known(ctx, repo, layer)
	if err != nil || st.row != nil || st.layer == nil {
		return nil
	}
	if _, filling := p.filling(up, layer); filling {
		return nil
	}
	table := p.table(ctx, *st.layer)
	if table == nil {
		return nil
	}
	return newSpanSource(p, up, repo, *st.layer, table, false)
}

// startRuns begins to fetch spans, neighbours together.
func startRuns(ctx context.Context, chunk []warmSpan) {
	by := map[*spanSource][]int{}
	for _, s := range chunk {
		by[s.src] = append(by[s.src], s.i)
	}
	for src, is := range by {
		slices.Sort(is)
		for len(is) > 0 {
			n := 1
			for n < len(is) && is[n] == is[n-1]+1 {
				n++
			}
			src.start(ctx, is[0], is[n-1])
			is = is[n:]
		}
	}
}

func waitForSpans(ctx context.Context, spans []warmSpan) error {
	for _, s := range spans {
		if err := s.src.wait(ctx, s.i); err != nil {
			return err
		}
	}
	return nil
}
