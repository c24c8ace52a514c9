package indexer

import (
	"strings"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestSignaturesAreLeft: a signature, which has its tag from a digest, is neither
// indexed nor converted nor pushed, whatever the rules say.
func TestSignaturesAreLeft(t *testing.T) {
	rule := Rule{Repositories: []string{"**"}, SpanSize: 65536, PublishUpstream: PublishUpstreamAll}
	inBubble(t, func(t *testing.T) {
		w, s := startSupplied(t, t.TempDir(), "docker", rule)
		body := newLayer(t, 9)
		sig := typedImage(t, "signature", []string{"application/vnd.dev.cosign.simplesigning.v1+json"}, body)
		w.check("store", w.store.Put(t.Context(), storage.BlobRow{Digest: sig.digest, Kind: storage.KindManifest}, sig.body, func(tx storage.Tx) error {
			return tx.PutManifest(storage.ManifestRow{Digest: sig.digest, Size: int64(len(sig.body)), Manifest: sig.manifest})
		}))
		s.putTag(t, "sha256-"+strings.Repeat("a", 64)+".sig", sig.digest)
		w.manifest(redis, sig)
		w.whole(body)
		w.settle()
		if _, ok := w.conversion(sig.digest); ok || len(w.referrers(sig.digest)) > 0 || len(w.tasks()) > 0 || len(w.jobs()) > 0 {
			t.Errorf("tasks %q, jobs %v", w.tasks(), w.jobs())
		}
	})
}
