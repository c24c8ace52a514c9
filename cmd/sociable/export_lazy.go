package main

import (
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/web"
)

// lazyLeft is a layer of which some spans are in a bundle, as --json prints it.
type lazyLeft struct {
	Reference string        `json:"reference"`
	Layer     digest.Digest `json:"layer"`
	Size      int64         `json:"size"`
	Spans     int           `json:"spans"` // in the bundle
	Of        int           `json:"of"`
	Bytes     int64         `json:"bytes"` // of these spans, about
}

// addSpans has the layers of which spans are to be exported be in the bundle by
// these, and gives them.
func addSpans(img *bundle.Image, w *web.WarmImage, blobs map[digest.Digest]bundle.Blob, x *exported) map[digest.Digest]bool {
	lazy := map[digest.Digest]bool{}
	for i := range w.Spans {
		s := &w.Spans[i]
		if lazy[s.Layer] {
			continue
		}
		lazy[s.Layer] = true
		img.Lazy = append(img.Lazy, s.LazyLayer)
		blobs[s.Spans] = bundle.Blob{Digest: s.Spans, Size: s.Bytes, Made: true}
		x.Lazy = append(x.Lazy, lazyLeft{w.Reference, s.Layer, s.Size, s.Have, s.Of, s.Bytes})
	}
	return lazy
}

// spansOf finds the fronts of files of spans by their digests.
func spansOf(images []web.WarmImage) map[digest.Digest]*bundle.Spans {
	by := map[digest.Digest]*bundle.Spans{}
	for i := range images {
		for j := range images[i].Spans {
			s := &images[i].Spans[j]
			by[s.Spans] = &s.Front
		}
	}
	return by
}

func signPlan(plan *bundle.Plan, key ed25519.PrivateKey, x *exported) (err error) {
	if key == nil {
		return nil
	}
	if x.Signed, err = bundle.KeyID(key.Public().(ed25519.PublicKey)); err != nil {
		return err
	}
	return plan.Sign(key)
}

// printLazy says what is left out of layers.
func printLazy(w io.Writer, x exported) {
	for _, l := range x.Lazy {
		fmt.Fprintf(w, "not in it: %s: %d of %d spans of layer %s, about %s", l.Reference, l.Of-l.Spans, l.Of,
			l.Layer, humanize.IBytes(uint64(max(0, l.Size-l.Bytes))))
		if l.Spans == 0 {
			fmt.Fprint(w, "; nobody has read any of it here: start the image once with a lazy client of this store")
		}
		fmt.Fprintln(w)
	}
	if len(x.Lazy) > 0 {
		fmt.Fprintln(w, "not in it: v2 images (TAG-soci): lazy clients find the v1 index, for which soci-snapshotter needs pull_modes.soci_v1")
	}
	if x.Signed != "" {
		fmt.Fprintf(w, "signed with %s\n", x.Signed)
	}
}
