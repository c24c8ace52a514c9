package ztoc

import (
	"fmt"

	"github.com/sociable/sociable/ztoc/internal/inflate"
)

// gzipCodec decodes a gzip layer and takes its checkpoints.
type gzipCodec struct {
	b    *Builder
	g    gunzip
	out  *parcel
	base int64 // offset in the output of out.buf[0]

	points  checkpoints
	last    int64 // output offset of the latest one
	maxSize int64
	found   []cut
	reject  error
}

func newGzipCodec(b *Builder) *gzipCodec {
	c := &gzipCodec{b: b, points: checkpoints{spill: b.spill}, maxSize: b.opt.MaxSize}
	c.g.W = inflate.Window
	c.base = -inflate.Window
	return c
}

// decode implements codec.
func (c *gzipCodec) decode(src []byte, end int, base int64, last bool) (int, error) {
	if c.out == nil {
		c.takeOutput()
	}
	g := &c.g
	if last {
		clear(src[end : end+inflate.SrcSlack])
	}
	g.Src, g.Pos, g.End, g.base, g.Last = src, 0, end, base, last
	for {
		ev, err := g.next()
		if err != nil {
			return g.Pos, err
		}
		switch ev {
		case needInput, inputEnded:
			return g.Pos, nil
		case needOutput:
			if err := c.b.fault(); err != nil {
				return g.Pos, err
			}
			c.flush()
		case memberBegun:
			g.Low = g.W
			c.mark(true)
			err = c.checkpoint()
		case blockEnded:
			err = c.checkpoint()
		case memberEnded:
			c.mark(false)
		}
		if err != nil {
			return g.Pos, err
		}
	}
}

// takeOutput takes the first output buffer; before the stream come zeros.
func (c *gzipCodec) takeOutput() {
	c.out = c.b.output.take()
	clear(c.out.buf[:inflate.Window])
	c.g.Dst, c.g.Limit = c.out.buf, inflate.Window+outputSize
}

// flush hands the output on and takes a new buffer, which begins with the last
// 32 KiB of the old one.
func (c *gzipCodec) flush() {
	g, old := &c.g, c.out
	old.n = g.W
	window := old.buf[g.W-inflate.Window : g.W]
	c.out = c.b.output.take()
	copy(c.out.buf, window)
	moved := g.W - inflate.Window
	c.base += int64(moved)
	g.Dst, g.W, g.Low = c.out.buf, inflate.Window, max(0, g.Low-moved)
	c.b.output.give(old)
}

// mark notes a member's boundary.
func (c *gzipCodec) mark(begin bool) {
	c.out.marks = append(c.out.marks, mark{c.g.W, begin, c.g.member})
	if len(c.out.marks) >= maxMarks {
		c.flush()
	}
}

// checkpoint takes a checkpoint where one is due.
func (c *gzipCodec) checkpoint() error {
	g := &c.g
	out := c.base + int64(g.W)
	if out != 0 && out-c.last <= c.b.spanSize {
		return nil
	}
	in, bits := g.pos(), 0
	c.found = append(c.found, cut{off: in, shared: g.Bit > 0 && c.points.count > 0})
	if g.Bit > 0 {
		in, bits = in+1, 8-g.Bit
	}
	if c.points.count > 0 && out == c.last && c.reject == nil {
		c.reject = nonMonotonic(c.points.count - 1)
	}
	if c.points.size()+checkpointSize > c.maxSize {
		return refuse(ClassLimit, out, fmt.Errorf("%d checkpoints: %w", c.points.count, ErrTooLarge))
	}
	c.last = out
	return c.points.add(in, out, bits, g.Dst[g.W-inflate.Window:g.W])
}

// cuts implements codec.
func (c *gzipCodec) cuts(to []cut) []cut {
	to = append(to, c.found...)
	c.found = keepSmall(c.found)
	return to
}

// close implements codec.
func (c *gzipCodec) close() {
	if c.out != nil {
		c.out.n = c.g.W
		c.b.output.give(c.out)
		c.out, c.g.Src, c.g.Dst = nil, nil, nil
	}
}

// zinfo implements codec.
func (c *gzipCodec) zinfo(int64) ([]extent, int64, error) {
	return c.points.blob(c.b.spanSize), c.points.size(), nil
}

// verdict implements codec.
func (c *gzipCodec) verdict() error { return c.reject }
