package proxy

import (
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// rateAfter is how long a fetch goes on before its speed says anything.
const rateAfter = 300 * time.Millisecond

// Flight tells of the fetch of the whole blob d that is under way, from whichever
// upstream: what is missing of it (-1: not known), and how fast it comes, 0 while
// that is not known. What Bring was asked for is under way from that moment, also
// while the upstream has not said yet that it has it.
func (p *Proxy) Flight(d digest.Digest) (missing int64, bytesPerSecond float64, ok bool) {
	p.mu.Lock()
	var fills []*fill
	for k, f := range p.fills {
		if k.d == d {
			fills = append(fills, f)
		}
	}
	for k := range p.bringing {
		ok = ok || k.d == d
	}
	p.mu.Unlock()
	for _, f := range fills {
		f.mu.Lock()
		whole, size, have, had, took := f.pump != nil, f.size, f.have.Bytes(), f.had, time.Since(f.began)
		f.mu.Unlock()
		if !whole {
			continue
		}
		if missing = -1; size >= 0 {
			missing = size - have
		}
		if took >= rateAfter && have > had {
			bytesPerSecond = float64(have-had) / took.Seconds()
		}
		return missing, bytesPerSecond, true
	}
	return -1, 0, ok
}

// Bring begins to fetch a blob of repo that nobody has asked for, once for all
// who call it meanwhile. It does not wait for the end, and a failure is only
// logged. When it returns, Flight knows of it.
func (p *Proxy) Bring(repo oci.Repo, d v1.Descriptor) {
	k := layerKey{repo, d.Digest}
	p.mu.Lock()
	_, begun := p.bringing[k]
	p.bringing[k] = struct{}{}
	p.mu.Unlock()
	if begun {
		return
	}
	end := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.bringing, k)
	}
	started := p.work.start(func() {
		defer end()
		if err := p.FetchBlob(p.life, repo, d); err != nil && p.life.Err() == nil {
			p.log.WarnContext(p.life, "blob not fetched ahead", "digest", d.Digest, "repo", repo, "err", err)
		}
	})
	if !started { // shutting down
		end()
	}
}
