package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/sociable/sociable/ztoc"
)

const (
	crowd       = 64      // transfers at once
	growthLimit = 4 << 20 // of resident memory over transfers: what a heap breathes
	peakLimit   = 100 << 20
)

// memory is one sociable that lives through everything: cold, indexed, warm and
// spans, 64 transfers at once each, then 10,000 transfers. It is the last row:
// the peak is that of every sociable in the run.
func (b *bench) memory(ctx context.Context) ([]*row, error) {
	s, err := b.start(ctx, sociable, conditions{link: slow})
	if err != nil {
		return nil, err
	}
	defer b.stop(s)
	open0, err := descriptors(s.proc.PID())
	if err != nil {
		return nil, err
	}
	peaks, err := b.crowds(ctx, s)
	if err != nil {
		return nil, err
	}
	s.link.Set(wide)
	if _, err := b.transfers(ctx, s, 1000); err != nil {
		return nil, err
	}
	before, err := b.resting(ctx, s)
	if err != nil {
		return nil, err
	}
	n, err := b.transfers(ctx, s, 10_000)
	if err != nil {
		return nil, err
	}
	after, err := b.resting(ctx, s)
	if err != nil {
		return nil, err
	}
	b.notePeak(s)

	peak := newRow("memory: peak of all rows, with 64 transfers at once", "≤ 100 MiB")
	b.kept.put(b.at)
	most, suite := b.kept.peak()
	peak.Cells[sociable] = fmt.Sprintf("%s (in %s); here: %s", mib(most), suite, peaks)
	peak.time(most <= peakLimit, "%s in %s", mib(most), suite)

	grown := newRow(fmt.Sprintf("memory after %d transfers", n), "no growth")
	grown.Cells[sociable] = fmt.Sprintf("%s → %s", mib(before), mib(after))
	grown.time(after <= before+growthLimit, "grown by %s", mib(after-before))

	fds := newRow("descriptors after them", "as at the start")
	open1, err := b.descriptorsBack(ctx, s, open0)
	if err != nil {
		return nil, err
	}
	fds.Cells[sociable] = fmt.Sprintf("%d → %d", open0, open1)
	fds.must(open1 <= open0, "%d more", open1-open0)
	return []*row{peak, grown, fds}, nil
}

// crowds has 64 transfers at once of each sort and tells the peaks behind each.
func (b *bench) crowds(ctx context.Context, s *server) (peaks string, err error) {
	var table *ztoc.SpanTable
	for _, phase := range []struct {
		name string
		do   func() error
	}{
		{"pull and index", func() error { table, err = b.indexed(ctx, s); return err }},
		{"64 cold spans", func() error { return b.crowdOfSpans(ctx, s, table) }},
		{"64 layers being indexed", func() error { return b.crowdOfLayers(ctx, s) }},
		{"64 whole blobs", func() error {
			d := b.catalog.Crowd.Layers[0].Digest
			spec := loadSpec{Clients: crowd, Count: 10 * crowd, Status: http.StatusOK, Check: 8, File: b.catalog.blobPath(d)}
			spec.Addr, spec.Path, spec.PID = s.addr, s.blob(b.catalog.Crowd.Repo, d), s.proc.PID()
			_, err := b.generate(ctx, spec)
			return err
		}},
	} {
		if err := phase.do(); err != nil {
			return "", fmt.Errorf("%s: %w", phase.name, err)
		}
		n, err := s.proc.PeakRSS()
		if err != nil {
			return "", err
		}
		if peaks != "" {
			peaks += ", "
		}
		peaks += fmt.Sprintf("%s %.0f", phase.name, float64(n)/(1<<20))
	}
	return peaks, nil
}

func (b *bench) crowdOfSpans(ctx context.Context, s *server, table *ztoc.SpanTable) error {
	fault := inParallel(crowd, crowd, func(i int) string {
		sp := table.Span(i * (table.Len() - 1) / crowd)
		_, fault := b.fetchRange(ctx, s, span{sp.Off, sp.End})
		return fault
	})
	return asError(fault)
}

func (b *bench) crowdOfLayers(ctx context.Context, s *server) error {
	im := b.catalog.Crowd
	if _, fault := b.getTag(ctx, s, im); fault != "" {
		return asError(fault)
	}
	fault := inParallel(len(im.Layers), crowd, func(i int) string {
		want, err := mapFile(b.catalog.blobPath(im.Layers[i].Digest))
		if err != nil {
			return err.Error()
		}
		return s.get(ctx, s.blob(im.Repo, im.Layers[i].Digest), whole, want).fault(http.StatusOK, im.Layers[i].Size)
	})
	return asError(fault)
}

func asError(fault string) error {
	if fault == "" {
		return nil
	}
	return fmt.Errorf("wrong answer: %s", fault)
}

// transfers makes n transfers of every sort and tells how many they were.
func (b *bench) transfers(ctx context.Context, s *server, n int) (int, error) {
	cr, sm := b.catalog.Crowd, b.catalog.Small
	if a := s.get(ctx, s.blob(sm.Repo, sm.Layers[0].Digest), whole, nil); a.fault(http.StatusOK, sm.Layers[0].Size) != "" {
		return 0, asError(a.fault(http.StatusOK, sm.Layers[0].Size))
	}
	layer, small := b.catalog.blobPath(cr.Layers[1].Digest), b.catalog.blobPath(sm.Layers[0].Digest)
	for _, spec := range []loadSpec{
		{Path: s.blob(cr.Repo, cr.Layers[1].Digest), Count: n * 3 / 10, Range: 64 << 10, Status: http.StatusPartialContent, File: layer},
		{Path: s.blob(cr.Repo, cr.Layers[1].Digest), Count: n / 10, Range: 4 << 20, Status: http.StatusPartialContent, File: layer},
		{Path: b.layerPath(s), Count: n / 10, Range: 64 << 10, Status: http.StatusPartialContent, File: b.catalog.blobPath(b.layer().Digest)},
		{Path: s.blob(sm.Repo, sm.Layers[0].Digest), Count: n * 2 / 10, Status: http.StatusOK, File: small},
		{Path: s.manifest(sm, sm.Tag), Count: n * 2 / 10, Status: http.StatusOK, File: b.catalog.blobPath(sm.Manifest.Digest)},
	} {
		spec.Addr, spec.PID, spec.Clients, spec.Check = s.addr, s.proc.PID(), 16, 4
		if _, err := b.generate(ctx, spec); err != nil {
			return 0, err
		}
	}
	if err := b.breakOff(ctx, s, n/10); err != nil {
		return 0, err
	}
	for i := range 10 { // cold, twice: by a client that leaves, and by one that stays
		d := cr.Layers[2+i].Digest
		if err := s.proxy.Purge(ctx, d.String()); err != nil {
			return 0, err
		}
		s.getFirst(ctx, s.blob(cr.Repo, d), whole, nil, mega)
		if f := s.get(ctx, s.blob(cr.Repo, d), whole, nil).fault(http.StatusOK, cr.Layers[2+i].Size); f != "" {
			return 0, asError(f)
		}
	}
	s.http.CloseIdleConnections()
	return n + 20, nil
}

// breakOff has n clients that leave in the middle of a warm blob.
func (b *bench) breakOff(ctx context.Context, s *server, n int) error {
	path := s.blob(b.catalog.Crowd.Repo, b.catalog.Crowd.Layers[1].Digest)
	return asError(inParallel(n, 16, func(int) string {
		if a := s.getFirst(ctx, path, whole, nil, 128<<10); a.err != nil || a.status != http.StatusOK {
			return fmt.Sprintf("status %d, %v", a.status, a.err)
		}
		return ""
	}))
}

// resting is the memory that the process holds when it has had nothing to do
// for some seconds.
func (b *bench) resting(ctx context.Context, s *server) (int64, error) {
	s.settle(ctx, 5*time.Second)
	pause(ctx, 3*time.Second)
	return residentBytes(s.proc.PID())
}

// descriptorsBack waits until no more than n descriptors are open, at most
// for ten seconds. The upstream hangs up first: connections that are kept for
// the next request are no leak.
func (b *bench) descriptorsBack(ctx context.Context, s *server, n int) (int, error) {
	_ = s.link.Down()
	for end := time.Now().Add(10 * time.Second); ; {
		now, err := descriptors(s.proc.PID())
		if err != nil || now <= n || time.Now().After(end) || ctx.Err() != nil {
			return now, err
		}
		pause(ctx, 50*time.Millisecond)
	}
}
