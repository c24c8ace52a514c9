package huge

import (
	"context"
	"io"
	"sync"
	"testing"
)

// TestPulledAtOnce: a client pulls two layers at once, of which each fits into the
// store, and not both. It gets them; and the one that is not kept is indexed, too,
// for which it is fetched once more.
func TestPulledAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	x := start(ctx, t, func(up *registry) { up.holdOf = 1 })
	if _, err := x.get(ctx, "/manifests/"+tag, "", io.Discard); err != nil {
		t.Fatal(err)
	}
	pull := func(i int) {
		l := x.up.layers[i]
		if n, err := x.get(ctx, "/blobs/"+l.digest.String(), "", io.Discard); err != nil || n != l.Size() {
			t.Errorf("layer %d: %d bytes of %d, %v", i, n, l.Size(), err)
		}
	}
	var first sync.WaitGroup
	first.Go(func() { pull(0) })
	defer first.Wait()
	defer x.up.goOn()
	x.until(ctx, t, "the first layer is on its way", x.up.holding)
	pull(1)
	if m, err := x.p.Metrics(ctx); err != nil || m["sociable_proxy_passed_through_total"] == 0 {
		t.Errorf("the second was kept (%v)", err)
	}
	x.up.goOn()
	first.Wait()
	x.until(ctx, t, "the image is indexed", func() bool { return x.indexed(ctx, t) })
	x.until(ctx, t, "no job is left", func() bool { return x.jobs(ctx, t) == 0 })
	// Each time there is no room a fetch has begun already, of which some is under way.
	if sent, most := x.up.sent.Load(), x.up.size()+2*x.up.layers[1].Size(); sent > most {
		t.Errorf("the upstream sent %d bytes, at most %d are wanted", sent, most)
	}
	x.compare(ctx, t)
}
