package main

import (
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/referrers"
	"github.com/sociable/sociable/storage"
)

// fetcher is the proxy as the indexer uses it. The indexer is made first: the
// proxy is set before anything runs.
type fetcher struct{ *proxy.Proxy }

// limits are what a layer may cost.
func (c *IndexConfig) limits() indexer.Limits {
	return indexer.Limits{MaxUncompressed: int64(c.MaxUncompressed), MaxFiles: c.MaxFiles, MaxZTOC: int64(c.MaxZTOC)}
}

func (f *fetcher) flight(d digest.Digest) (int64, float64, bool) { return f.Flight(d) }

func (f *fetcher) bring(repo oci.Repo, d v1.Descriptor) { f.Bring(repo, d) }

func (f *fetcher) warm(r *http.Request, repo oci.Repo, manifest digest.Digest, ranges []storage.LayerRange) {
	f.Warm(r, repo, manifest, ranges)
}

// busy reports that more than so many requests are being answered; 0: never.
func (f *fetcher) busy(above int) func() bool {
	if above == 0 {
		return nil
	}
	return func() bool { return f.Active() > above }
}

// paused says why the queue waits while busy, of the same number, reports true.
func paused(px *proxy.Proxy, above int) func() string {
	return func() string {
		if n := px.Active(); above > 0 && n > above {
			return fmt.Sprintf("clients are busy, %d requests are being answered (index.pause_above: %d)", n, above)
		}
		return ""
	}
}

// holdOptions has clients wait for indexes that ix is about to list.
func holdOptions(cfg *Config, ix *indexer.Indexer) referrers.HoldOptions {
	if cfg.Referrers.Wait == 0 {
		return referrers.HoldOptions{}
	}
	return referrers.HoldOptions{
		Coming: ix, Wait: cfg.Referrers.Wait, Max: cfg.Referrers.WaitMax, Build: cfg.Referrers.FirstPull == "build",
	}
}
