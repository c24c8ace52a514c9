package proxy

import (
	"context"
	"errors"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// filing is a manifest that upstream sent and that was verified: it is served,
// while its bytes and rows are made durable. A crash before that loses it, and it
// is fetched again.
type filing struct {
	found
	done chan struct{}
	err  error // why it was not kept; set before done is closed
}

// filings are those under way, by each name that leads to them.
type filings struct {
	mu    sync.Mutex
	m     map[filingKey]*filing
	bytes int // of all bodies in m
}

// maxFilings bounds the bodies that wait to be stored. What comes while so much
// waits is answered when it is stored.
const maxFilings = 16 << 20

type filingKey struct {
	repo oci.Repo
	ref  oci.Reference
}

// get finds the manifest that ref of repo led to just now; found again, it is
// one that another request fetched.
func (fs *filings) get(repo oci.Repo, ref oci.Reference) (found, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fl := fs.m[filingKey{repo, ref}]
	if fl == nil {
		return found{}, false
	}
	got := fl.found
	got.out, got.filing = outcomeFollow, fl
	return got, true
}

// put files it under keys; full reports that too much waits already.
func (fs *filings) put(fl *filing, keys ...filingKey) (full bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, k := range keys {
		fs.m[k] = fl
	}
	full = fs.bytes+len(fl.body) > maxFilings
	fs.bytes += len(fl.body)
	return full
}

func (fs *filings) end(fl *filing, keys ...filingKey) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, k := range keys {
		if fs.m[k] == fl {
			delete(fs.m, k)
		}
	}
	fs.bytes -= len(fl.body)
	close(fl.done)
}

// forget has nobody else find what is under way from upstream.
func (fs *filings) forget(upstream string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for k := range fs.m {
		if k.repo.Upstream == upstream {
			delete(fs.m, k)
		}
	}
}

// all gives them all.
func (fs *filings) all() (list []*filing) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, fl := range fs.m {
		list = append(list, fl)
	}
	return list
}

// file has a manifest stored and the indexer told of it, behind the answer. What
// can be said against the manifest itself was said before.
func (p *Proxy) file(up *Upstream, repo oci.Repo, ref oci.Reference, m *upstream.Manifest, row storage.ManifestRow) found {
	fl := &filing{found: found{desc: descriptor(row), body: m.Body, out: outcomeMiss}, done: make(chan struct{})}
	if p.superseded(up) { // for those who asked before, and for nobody else
		fl.err = errSuperseded
		close(fl.done)
		return fl.found
	}
	keys := []filingKey{{repo, ref}, {repo, oci.Reference{Digest: row.Digest}}}
	full := p.filings.put(fl, keys...)
	keep := func() {
		defer p.filings.end(fl, keys...)
		ctx := context.WithoutCancel(p.life) // short, and its end is waited for
		fl.err = p.storeManifest(ctx, up, repo, ref, m, row)
		if fl.err != nil {
			p.notKept(fl.desc, repo, fl.err)
			return
		}
		if err := p.index.Manifest(ctx, repo, row); err != nil {
			p.log.ErrorContext(ctx, "manifest not given to the indexer", "digest", row.Digest, "err", err)
		}
	}
	switch {
	case full:
		keep() // by the shared call itself, which everybody who wants this one waits for
	case !p.work.start(keep): // shutting down
		fl.err = errShutdown
		p.filings.end(fl, keys...)
	}
	got := fl.found
	got.filing = fl
	return got
}

// notKept counts a manifest that is served and not stored. That is no reason to
// refuse it.
func (p *Proxy) notKept(desc v1.Descriptor, repo oci.Repo, err error) {
	if errors.Is(err, storage.ErrBlocked) { // since it was sent
		return
	}
	p.passed(p.life, repo, desc.Digest, err)
}

// filed waits until the manifest has its rows, for those who go on from these.
// The error says why it was not kept.
func (got *found) filed(ctx context.Context) error {
	if got.filing == nil {
		return nil
	}
	select {
	case <-got.filing.done:
		return got.filing.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// whenFiled calls fn once the indexer knows all manifests that were served: right
// now, as a rule. fn does not block.
func (p *Proxy) whenFiled(fn func()) {
	list := p.filings.all()
	if len(list) == 0 {
		fn()
		return
	}
	p.work.start(func() { // else: shutting down
		for _, fl := range list {
			<-fl.done
		}
		fn()
	})
}
