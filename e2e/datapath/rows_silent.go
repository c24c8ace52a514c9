package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/sociable/sociable/e2e/link"
)

// silentUpstream is one that takes requests and says nothing, while what
// clients want is cached and the tag is due to be checked.
func (b *bench) silentUpstream(ctx context.Context) ([]*row, error) {
	found := map[kind]*silence{}
	_, err := b.rounds(ctx, times{sociable: 1, nginx: 1, distribution: 1}, conditions{link: wide, tagTTL: time.Second}, 0,
		func(ctx context.Context, s *server, _ int) sample {
			if x := b.pull(ctx, s); x.fault != "" {
				return x
			}
			pause(ctx, 1200*time.Millisecond) // the tag's time is over
			s.link.Inject(link.Fault{Silent: true})
			// A new connection for each request: nginx takes no second one on a
			// connection while it looks up again what the first asked for. The
			// time to connect is left out.
			s.http.Transport.(*http.Transport).DisableKeepAlives = true
			found[s.kind] = b.keepAsking(ctx, s)
			return sample{}
		})
	if err != nil {
		return nil, err
	}
	tag := newRow("silent upstream: cached tag", "≤ 1.1 s once, then ≤ 1 ms")
	blob := newRow("silent upstream: cached blob, 64 KiB", "≤ 1 ms")
	for k, x := range found {
		tag.Cells[k], blob.Cells[k] = x.tag(), x.blob()
	}
	ours := found[sociable]
	if ours == nil {
		return nil, fmt.Errorf("sociable could not be filled")
	}
	for _, f := range []string{ours.tagFault, ours.laterFault} {
		tag.must(f == "", "%s", f)
	}
	blob.must(ours.blobFault == "", "%s", ours.blobFault)
	tag.time(ours.first <= 1.1, "%s once", seconds(ours.first))
	tag.time(median(ours.later, same) <= 0.001, "then %s", seconds(median(ours.later, same)))
	tag.time(worst(ours.later, same) <= 0.1, "another wait of %s", seconds(worst(ours.later, same)))
	blob.time(median(ours.blobs, same) <= 0.001, "%s", seconds(median(ours.blobs, same)))
	return []*row{tag, blob}, nil
}

// silence is what a client saw of a server whose upstream was silent, in seconds.
type silence struct {
	first                           float64   // asking for the tag
	later                           []float64 // asking for it again, over some seconds
	blobs                           []float64 // asking for 64 KiB of the layer
	tagFault, laterFault, blobFault string
}

func (b *bench) keepAsking(ctx context.Context, s *server) *silence {
	x := &silence{}
	tctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	a, fault := b.getTag(tctx, s, b.catalog.Big)
	cancel()
	x.first, x.tagFault = a.wire.Seconds(), fault
	for i := range int64(50) {
		bctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		a, fault := b.fetchRange(bctx, s, span{i * mega, i*mega + 64<<10})
		x.blobs = append(x.blobs, a.wire.Seconds())
		if fault != "" {
			x.blobFault = fault
		}
		if x.tagFault == "" {
			a, fault = b.getTag(bctx, s, b.catalog.Big)
			x.later = append(x.later, a.wire.Seconds())
			if fault != "" {
				x.laterFault = fault
			}
		}
		cancel()
		if x.blobFault != "" || x.laterFault != "" {
			break // it will not get better
		}
		pause(ctx, 50*time.Millisecond)
	}
	return x
}

func (x *silence) tag() string {
	switch {
	case x.tagFault != "":
		return "nothing within 10 s"
	case x.laterFault != "":
		return seconds(x.first) + ", then " + x.laterFault
	}
	return fmt.Sprintf("%s, then %s (at most %s)", seconds(x.first), seconds(median(x.later, same)), seconds(worst(x.later, same)))
}

func (x *silence) blob() string {
	if x.blobFault != "" {
		return x.blobFault
	}
	return seconds(median(x.blobs, same))
}

func same[T any](x T) T { return x }

// pause waits for what takes its time by the wall clock.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
