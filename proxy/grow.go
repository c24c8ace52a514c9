package proxy

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// maxReadings bounds how many blobs' ranged reads are remembered.
const maxReadings = 4096

// readings counts, for blobs that are not whole here, the ranges that were
// asked for and the bytes that they brought: when they pass what is configured,
// the rest is fetched, too. Forgetting one only delays that.
type readings struct {
	mu  sync.Mutex
	lru *list.List // of *reading, last used first
	by  map[digest.Digest]*list.Element
}

type reading struct {
	d      digest.Digest
	ranges int
	bytes  int64
}

func newReadings() *readings {
	return &readings{lru: list.New(), by: map[digest.Digest]*list.Element{}}
}

// add counts and gives the sums.
func (t *readings) add(d digest.Digest, ranges int, bytes int64) (int, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.by[d]
	if e == nil {
		e = t.lru.PushFront(&reading{d: d})
		t.by[d] = e
		if t.lru.Len() > maxReadings {
			delete(t.by, t.lru.Remove(t.lru.Back()).(*reading).d)
		}
	}
	t.lru.MoveToFront(e)
	r := e.Value.(*reading)
	r.ranges += ranges
	r.bytes += bytes
	return r.ranges, r.bytes
}

func (t *readings) forget(d digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.by[d]; e != nil {
		t.lru.Remove(e)
		delete(t.by, d)
	}
}

// brought counts what ranged reads of d cost upstream, and fetches the rest of
// the blob when that is the policy.
func (p *Proxy) brought(up *Upstream, repo oci.Repo, d digest.Digest, ranges int, bytes, size int64) {
	n, sum := p.readings.add(d, ranges, bytes)
	o := p.opt
	if (o.FillAfterRanges == 0 || n < o.FillAfterRanges) &&
		(o.FillAfterPercent == 0 || size <= 0 || sum*100 < int64(o.FillAfterPercent)*size) {
		return
	}
	p.readings.forget(d)
	p.work.Go(func() { p.grow(p.life, up, repo, d) })
}

// grow fetches what is missing of a blob that is read by ranges.
func (p *Proxy) grow(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest) {
	f, err := p.acquire(ctx, up, repo, d, true)
	if err != nil {
		p.log.WarnContext(ctx, "rest of a blob not fetched", "digest", d, "repo", repo, "err", err)
		return
	}
	defer f.release()
	f.mu.Lock()
	f.kept = true
	f.mu.Unlock()
	p.log.InfoContext(ctx, "blob read by ranges is fetched whole", "digest", d, "repo", repo, "upstream", up.Name)
	f.pumpOnce()
}

// seed copies the spans of an indexed layer that are here into its partial, so
// that they are not fetched again. It goes on without those it can't have.
func (m *pump) seed(ctx context.Context) error {
	f := m.f
	st, err := f.p.known(ctx, f.repo, f.d)
	if err != nil || st.layer == nil {
		return err
	}
	table := f.p.table(ctx, *st.layer)
	if table == nil {
		return nil
	}
	buf := f.p.bufs.get()
	defer f.p.bufs.put(buf)
	for i := range table.Len() {
		sp := table.Span(i)
		b, err := f.p.store.Open(ctx, sp.Digest)
		if err != nil { // not here, or not to be had: upstream has it
			continue
		}
		err = f.seedSpan(b, sp, buf)
		_ = b.Close() // only read from
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fill) seedSpan(b storage.Blob, sp ztoc.Span, buf []byte) error {
	at := sp.Off
	for at < sp.End {
		got, state, _ := f.claim(oci.Range{Off: at, End: min(sp.End, at+int64(len(buf)))})
		at = got.End
		if state != claimOurs {
			continue
		}
		n, err := b.ReadAt(buf[:got.Len()], got.Off-sp.Off)
		if int64(n) < got.Len() {
			f.unclaim(got)
			return fmt.Errorf("read span %s: %w", sp.Digest, err)
		}
		if _, err := f.part.WriteAt(buf[:n], got.Off); err != nil {
			f.unclaim(got)
			return keepError{fmt.Errorf("write partial %s: %w", f.d, err)}
		}
		f.landed(got)
	}
	return nil
}
