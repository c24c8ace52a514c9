package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestFilingsAreBounded: while rows can't be written, manifests are answered as
// long as those that wait fit their bound; then each when it is stored.
func TestFilingsAreBounded(t *testing.T) {
	g := newRegistry(t)
	held := &heldMeta{release: make(chan struct{})}
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) {
		held.Meta = o.Meta
		o.Meta = held
	})
	s.hasty = true
	const size = 2 << 20
	pad := strings.Repeat("x", size)
	fit := maxFilings / size // one fewer, since a manifest is more than its padding; and one that waits
	for i := range fit {
		body := strings.TrimSuffix(image(oci.EmptyDigest, digest.FromString(fmt.Sprint(i)), i), "}") + `,"annotations":{"a":"` + pad + `"}}`
		g.addManifest("a", fmt.Sprintf("v%d", i), v1.MediaTypeImageManifest, body)
	}
	get := func(i int) int { return s.do(t, http.MethodGet, fmt.Sprintf("/v2/up/a/manifests/v%d", i)).status }
	for i := range fit - 1 {
		if code := get(i); code != http.StatusOK {
			t.Fatalf("manifest %d, with room: %d", i, code)
		}
	}
	answered := make(chan int)
	go func() { answered <- get(fit - 1) }()
	for waits := false; !waits; { // until it is filed
		select {
		case code := <-answered:
			t.Fatalf("a manifest beyond the bound is answered %d before it is stored", code)
		default:
		}
		s.p.filings.mu.Lock()
		waits = s.p.filings.bytes > maxFilings
		s.p.filings.mu.Unlock()
	}
	select {
	case code := <-answered:
		t.Fatalf("a manifest beyond the bound is answered %d before it is stored", code)
	default:
	}
	close(held.release)
	if code := <-answered; code != http.StatusOK {
		t.Errorf("once it is stored: %d", code)
	}
}
