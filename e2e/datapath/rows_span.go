package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/ztoc"
)

// indexed pulls image big through a sociable, takes its index, and has the
// layer's bytes dropped: what is left is what ranges are answered with.
func (b *bench) indexed(ctx context.Context, s *server) (*ztoc.SpanTable, error) {
	s.link.Set(wide)
	defer s.link.Set(slow)
	if x := b.pull(ctx, s); x.fault != "" {
		return nil, fmt.Errorf("pull: %s", x.fault)
	}
	found, err := b.awaitIndex(ctx, s)
	if err != nil {
		return nil, err
	}
	repo := b.catalog.Big.Repo
	a := s.get(ctx, s.repo(repo)+"/manifests/"+found.Digest.String(), whole, nil)
	if f := a.fault(http.StatusOK, found.Size); f != "" {
		return nil, fmt.Errorf("index: %s", f)
	}
	var index v1.Manifest
	if err := json.Unmarshal(a.body, &index); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if len(index.Layers) != 1 {
		return nil, fmt.Errorf("the index has %d zTOCs, want one", len(index.Layers))
	}
	z := index.Layers[0]
	a = s.get(ctx, s.blob(repo, z.Digest), whole, nil)
	if f := a.fault(http.StatusOK, z.Size); f != "" {
		return nil, fmt.Errorf("zTOC: %s", f)
	}
	toc, err := ztoc.Parse(bytes.NewReader(a.body), z.Size)
	if err != nil {
		return nil, err
	}
	t, err := toc.Table()
	if err != nil {
		return nil, err
	}
	for i := range t.Len() {
		sp := t.Span(i)
		if got := digest.FromBytes(b.big[sp.Off:sp.End]); got != sp.Digest {
			return nil, fmt.Errorf("span %d is not what the zTOC says: %s, %s", i, got, sp.Digest)
		}
	}
	if err := s.proxy.Purge(ctx, b.layer().Digest.String()); err != nil {
		return nil, err
	}
	s.link.Forget()
	return &t, nil
}

// indexedSpan is what a lazily started container reads: probes, then spans.
func (b *bench) indexedSpan(ctx context.Context) ([]*row, error) {
	s, err := b.start(ctx, sociable, conditions{link: slow})
	if err != nil {
		return nil, err
	}
	defer b.stop(s)
	table, err := b.indexed(ctx, s)
	if err != nil {
		return nil, err
	}
	d, err := b.start(ctx, direct, conditions{link: slow})
	if err != nil {
		return nil, err
	}
	defer b.stop(d)
	return []*row{b.probes(ctx, s, table), b.spans(ctx, s, d, table)}, nil
}

// probes is what every lazy mount sends before it reads.
func (b *bench) probes(ctx context.Context, s *server, table *ztoc.SpanTable) *row {
	r := newRow("a lazy mount's probes (`bytes=0-1`, header) of an indexed layer", "0 upstream bytes")
	var all []sample
	for _, p := range []span{{0, 2}, {0, table.Span(0).Off}, {0, 10}, {0, 512}} {
		a, fault := b.fetchRange(ctx, s, p)
		if fault != "" {
			fault = p.header() + ": " + fault
		}
		all = append(all, sample{took: a.took.Seconds(), fault: fault})
	}
	if a := s.head(ctx, b.layerPath(s)); a.fault(http.StatusOK, 0) != "" || a.length != b.layer().Size {
		r.must(false, "HEAD: status %d, Content-Length %d", a.status, a.length)
	}
	n, sent := len(s.link.Requests()), s.link.Bytes()
	r.fill(map[kind][]sample{sociable: all}, func(xs []sample) string {
		return fmt.Sprintf("%s, %s, %s", requests(n), mib(sent), seconds(median(xs, took)))
	})
	r.must(n == 0 && sent == 0, "%s, %s", requests(n), mib(sent))
	return r
}

// spans reads some spans that nobody has read, one after the other.
func (b *bench) spans(ctx context.Context, s, d *server, table *ztoc.SpanTable) *row {
	r := newRow("cold range of one span, indexed", "≤ 1.05 × the span, 1 request; ≤ direct + 5 ms")
	all := map[kind][]sample{}
	var over, share []float64
	const n = 15
	for i := range n {
		sp := table.Span(1 + i*(table.Len()-2)/n)
		var x [2]sample
		for j, server := range []*server{d, s} {
			server.link.Forget()
			a, fault := b.fetchRange(ctx, server, span{sp.Off, sp.End})
			server.settle(ctx, time.Second)
			x[j] = sample{took: a.took.Seconds(), fault: fault}
			x[j].count(server)
			all[server.kind] = append(all[server.kind], x[j])
		}
		over = append(over, x[1].took-x[0].took)
		share = append(share, float64(x[1].bytes)/float64(sp.End-sp.Off))
	}
	r.fill(all, timeBytesRequests)
	r.Cells[sociable] += fmt.Sprintf(" (direct %+.1f ms, × %.2f)", median(over, same)*1e3, worst(share, same))
	r.time(median(over, same) <= 0.005, "direct %+.1f ms", median(over, same)*1e3)
	r.must(worst(share, same) <= 1.05, "%.2f × the span", worst(share, same))
	r.must(worst(all[sociable], requestsOf) == 1, "%s", requests(worst(all[sociable], requestsOf)))
	return r
}
