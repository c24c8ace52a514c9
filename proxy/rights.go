package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// right is a repository that was found to have a digest.
type right struct {
	repo oci.Repo
	d    digest.Digest
}

// rights holds what was proven and is not yet a row. Losing it costs one
// question to upstream, so it is written in batches, behind the answers.
type rights struct {
	mu      sync.Mutex
	pending map[right]struct{}
	// written were pending until just now: a transaction that began before does
	// not see their rows.
	written map[right]struct{}
	wake    chan struct{}
	voids   map[string]struct{} // upstreams of which no row counts, see Identity
}

func newRights() *rights {
	return &rights{pending: map[right]struct{}{}, wake: make(chan struct{}, 1), voids: map[string]struct{}{}}
}

// grant remembers that up answered for d in repo, unless up is one of before.
func (p *Proxy) grant(up *Upstream, repo oci.Repo, d digest.Digest) {
	p.rights.mu.Lock()
	if p.superseded(up) {
		p.rights.mu.Unlock()
		return
	}
	p.rights.pending[right{repo, d}] = struct{}{}
	p.rights.mu.Unlock()
	select {
	case p.rights.wake <- struct{}{}:
	default:
	}
}

// revoke forgets what was proven and may not yet be a row.
func (p *Proxy) revoke(repo oci.Repo, d digest.Digest) {
	p.rights.mu.Lock()
	defer p.rights.mu.Unlock()
	delete(p.rights.pending, right{repo, d})
	delete(p.rights.written, right{repo, d})
}

// has reports whether repo has d, or what d was made from here.
func (p *Proxy) has(tx storage.RightTx, repo oci.Repo, d, of digest.Digest) (bool, error) {
	// Whether it is there to push a manifest upon is another question: see headPassed.
	if d == oci.EmptyDigest && !p.routes().hosted(repo.Upstream) { // the two bytes {} are nobody's secret
		return true, nil
	}
	for _, x := range []digest.Digest{d, of} {
		if x == "" {
			continue
		}
		p.rights.mu.Lock()
		_, pending := p.rights.pending[right{repo, x}]
		_, written := p.rights.written[right{repo, x}]
		_, void := p.rights.voids[repo.Upstream]
		p.rights.mu.Unlock()
		if pending || written {
			return true, nil
		}
		if void {
			continue
		}
		if ok, err := tx.HasRight(repo, x); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// derivedFrom is the digest whose right gives the right to a blob made here.
func derivedFrom(row storage.BlobRow) digest.Digest {
	if row.Kind == storage.KindZTOC || row.Kind == storage.KindIndex {
		return row.Of
	}
	return ""
}

// prove asks upstream whether repo has d, before anything cached, or anything
// that others fetch, is given to a caller of repo. A manifest that names d
// proves nothing: anybody may write one.
func (p *Proxy) prove(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, st stored) error {
	manifest := st.row != nil && (st.row.Kind == storage.KindIndex || st.row.Kind == storage.KindManifest)
	head := func(d digest.Digest) error {
		_, err := p.headOf(ctx, up, repo, d, manifest)
		return err
	}
	asked := d
	if st.of != "" {
		asked = st.of
	}
	err := head(asked)
	if asked != d && upstream.IsNotFound(err) { // somebody copied what was made here without what it was made of
		asked = d
		err = head(d)
	}
	d = asked
	if err != nil {
		return fmt.Errorf("ask %s for %s: %w", repo, d, err)
	}
	return nil
}

// writeRights turns what was proven into rows until ctx ends.
func (p *Proxy) writeRights(ctx context.Context) {
	for {
		select {
		case <-p.rights.wake:
		case <-ctx.Done():
			p.flushRights(context.WithoutCancel(ctx))
			return
		}
		p.flushRights(context.WithoutCancel(ctx)) // short, and its end is waited for
		select {                                  // gather: one transaction for a burst
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		p.rights.mu.Lock()
		p.rights.written = nil // lookups are short
		p.rights.mu.Unlock()
	}
}

func (p *Proxy) flushRights(ctx context.Context) {
	p.rights.mu.Lock()
	batch := make([]right, 0, len(p.rights.pending))
	for r := range p.rights.pending {
		batch = append(batch, r)
	}
	p.rights.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	news, err := p.unwritten(ctx, batch)
	if err == nil && len(news) > 0 {
		err = p.store.Update(ctx, func(tx storage.Tx) error { return p.putRights(tx, news) })
	}
	if err != nil { // kept in memory, and tried again with the next one
		p.log.Error("rights not written", "err", err)
		return
	}
	p.rights.mu.Lock()
	defer p.rights.mu.Unlock()
	p.rights.written = make(map[right]struct{}, len(batch))
	for _, r := range batch {
		if _, ok := p.rights.pending[r]; ok {
			delete(p.rights.pending, r)
			p.rights.written[r] = struct{}{}
		}
	}
}

// unwritten are those of batch that have no row, or one that does not count. Each
// transfer of a blob that is read by ranges proves what the first one did.
func (p *Proxy) unwritten(ctx context.Context, batch []right) (news []right, err error) {
	err = p.store.View(ctx, func(tx storage.Tx) error {
		news = news[:0]
		for _, r := range batch {
			has, err := tx.HasRight(r.repo, r.d)
			if err != nil {
				return err
			}
			if !has || p.rights.isVoid(r.repo.Upstream) {
				news = append(news, r)
			}
		}
		return nil
	})
	return news, err
}

func (p *Proxy) putRights(tx storage.Tx, news []right) error {
	for _, r := range news {
		if !p.rights.isPending(r) { // it was forgotten meanwhile
			continue
		}
		if err := tx.PutRight(r.repo, r.d); err != nil {
			return err
		}
	}
	return nil
}

func (r *rights) isPending(x right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.pending[x]
	return ok
}
