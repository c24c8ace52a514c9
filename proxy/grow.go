package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// maxReadings bounds how many blobs' ranged reads are remembered.
const maxReadings = 4096

// reading is what ranged reads of a blob that is not whole here came to. When it
// passes what is configured, the rest is fetched, too. Forgetting it only
// delays that.
type reading struct {
	ranges int
	bytes  int64
}

// brought counts what ranged reads of d cost upstream, and fetches the rest of
// the blob when that is the policy.
func (p *Proxy) brought(up *Upstream, repo oci.Repo, d digest.Digest, ranges int, bytes, size int64) {
	sum, _ := p.readings.get(d)
	sum.ranges += ranges
	sum.bytes += bytes // two at once may count as one: it is a rule of thumb
	if !p.isMuch(&sum, size, func() int64 { return sum.bytes }) {
		p.readings.put(d, sum)
		return
	}
	p.readings.drop(d)
	p.startGrowing(up, repo, d, size)
}

// broughtSpans is brought for spans of an indexed layer. These go one by one and
// are brought again: what counts is how much of the layer is here.
func (s *spanSource) broughtSpans(bytes int64) {
	p, d := s.p, s.layer.Digest
	p.metrics.upstreamBytes.Add(float64(bytes))
	sum, _ := p.readings.get(d)
	sum.bytes += bytes
	if !p.isMuch(&sum, s.layer.Size, s.here) {
		p.readings.put(d, sum)
		return
	}
	p.readings.drop(d)
	p.startGrowing(s.up, s.repo, d, s.layer.Size)
}

// here is how many bytes of the layer its spans have that are stored.
func (s *spanSource) here() (n int64) {
	for i := range s.table.Len() {
		sp := s.table.Span(i)
		if _, err := s.p.store.Stat(s.p.life, sp.Digest); err == nil {
			n += sp.End - sp.Off
		}
	}
	return n
}

// isMuch reports whether so much was read of a blob by ranges that it is to be
// fetched whole. here, asked where it could be, says how much of it is here, which
// is then what is remembered.
func (p *Proxy) isMuch(sum *reading, size int64, here func() int64) bool {
	o := p.opt
	if o.FillAfterRanges > 0 && sum.ranges >= o.FillAfterRanges {
		return true
	}
	most := int64(o.FillAfterPercent) * size
	if most <= 0 || sum.bytes*100 < most {
		return false
	}
	sum.bytes = here()
	return sum.bytes*100 >= most
}

// startGrowing leaves alone what the store has no room for: what is here of it is
// all that there can be, and would be pushed out by what can't be kept.
func (p *Proxy) startGrowing(up *Upstream, repo oci.Repo, d digest.Digest, size int64) {
	if !p.store.MayKeep(p.life, d, size) {
		p.log.DebugContext(p.life, "blob read by ranges is not fetched whole: the store has no room for it", "digest", d, "repo", repo, "bytes", size)
		return
	}
	p.work.start(func() { p.grow(p.life, up, repo, d) }) // else: shutting down
}

// grow fetches what is missing of a blob that is read by ranges.
func (p *Proxy) grow(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest) {
	f, _, err := p.acquire(ctx, up, repo, d, true)
	if errors.Is(err, errCame) {
		return
	}
	if err != nil {
		p.log.WarnContext(ctx, "rest of a blob not fetched", "digest", d, "repo", repo, "err", err)
		return
	}
	defer f.release()
	f.mu.Lock()
	f.kept = true
	f.mu.Unlock()
	p.log.InfoContext(ctx, "blob read by ranges is fetched whole", "digest", d, "repo", repo, "upstream", up.Name)
	f.pumpOnce(nil)
}

// begin takes what is here of the blob, and makes room for it. An indexed layer that
// may not fit has its room first: to copy its spans would push them out, for nothing.
func (m *pump) begin(ctx context.Context) error {
	f := m.f
	st, err := f.p.known(ctx, m.by.repo, f.d)
	if err == nil && st.layer != nil {
		if !f.part.MayKeep(ctx, st.layer.Size) {
			if err := m.reserve(ctx, st.layer.Size); err != nil {
				return err
			}
		}
		err = m.seed(ctx, *st.layer)
	}
	if err != nil {
		f.p.log.WarnContext(ctx, "cached spans not used for the whole layer", "digest", f.d, "err", err)
	}
	return m.makeRoom(ctx)
}

// seed copies the spans of an indexed layer that are here into its partial, so
// that they are not fetched again. It goes on without those it can't have, and has
// those withdrawn that are not right any more.
func (m *pump) seed(ctx context.Context, layer storage.LayerRow) error {
	f := m.f
	table := f.p.table(ctx, layer)
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
		right, err := f.seedSpan(ctx, b, sp, buf)
		_ = b.Close() // only read from
		if err == nil && !right {
			err = f.p.store.DropWrong(ctx, sp.Digest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// seedSpan copies what of sp, which b is, nobody has or brings. Nobody reads it before
// all of b is seen to be right: it was when it came, but a medium can change it, and
// what is wrong with the whole is taken for upstream's fault.
func (f *fill) seedSpan(ctx context.Context, b storage.Blob, sp ztoc.Span, buf []byte) (right bool, err error) {
	var ours oci.Extents
	defer func() {
		for _, r := range ours {
			if right {
				f.landed(r)
			} else {
				f.unclaim(r)
			}
		}
	}()
	verify := sp.Digest.Verifier()
	for at := sp.Off; at < sp.End; {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		p := buf[:min(int64(len(buf)), sp.End-at)]
		if n, _ := b.ReadAt(p, at-sp.Off); n < len(p) { // cut off, or not to be read
			return false, nil
		}
		_, _ = verify.Write(p) // a hash never fails
		for len(p) > 0 {
			got, state := f.claim(oci.Range{Off: at, End: at + int64(len(p))})
			if state == claimOurs {
				ours.Add(got)
				if _, err := f.part.WriteAt(p[:got.Len()], got.Off); err != nil {
					return false, keepError{fmt.Errorf("write partial %s: %w", f.d, err)}
				}
			}
			at, p = got.End, p[got.Len():]
		}
	}
	return verify.Verified(), nil
}
