package main

import (
	"fmt"
	"io"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// imagesProgress shows how far several images are: one bar over all of them where
// a person is looking, and a line for each that is through elsewhere. A nil one
// shows nothing.
type imagesProgress struct {
	w  io.Writer
	of int

	mu      sync.Mutex
	bar     progress
	through int
	parts   map[int]oci.PullProgress
}

func newImagesProgress(cmd *cobra.Command, of int) *imagesProgress {
	return &imagesProgress{w: cmd.ErrOrStderr(), of: of, bar: newProgress(cmd, -1, inWords(of, "image")), parts: map[int]oci.PullProgress{}}
}

// tell takes in what was heard of image i.
func (p *imagesProgress) tell(i int, name string, e web.WarmEvent) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Progress != nil {
		p.parts[i] = *e.Progress
	}
	doing := "pulling "
	if e.Index != nil {
		doing = "indexing "
	}
	p.bar.about(fmt.Sprintf("%d of %s, %s%s", p.through, inWords(p.of, "image"), doing, name))
	p.show()
}

func (p *imagesProgress) show() {
	var done, of int64
	for _, x := range p.parts {
		done, of = done+x.Bytes, of+x.OfBytes
	}
	if of > 0 {
		p.bar.of(of)
		p.bar.set(min(done, of))
	}
}

func (p *imagesProgress) done(i int, r warmed) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.through++
	if x, ok := p.parts[i]; ok {
		x.Bytes = x.OfBytes
		p.parts[i] = x
	}
	if p.bar.bar != nil {
		p.show()
		return
	}
	fmt.Fprintf(p.w, "%d of %d: %s, %s: %s\n", p.through, p.of, r.Name, humanize.IBytes(uint64(r.Bytes)), r.result())
}

func (p *imagesProgress) end() { p.bar.end() }
