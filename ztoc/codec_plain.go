package ztoc

import (
	"crypto/sha256"
	"fmt"
)

// plainCodec is for layers that are not compressed: spans of equal size, and
// nothing to know at their beginnings.
type plainCodec struct {
	spanSize int64
	maxSize  int64 // of the zTOC
	next     int64 // where the next span begins
	found    []cut
}

// digestBytes is what the digest of a span takes in a zTOC: its text, a NUL, its
// length, and a reference to it.
const digestBytes = len(digestPrefix) + 2*sha256.Size + 1 + 4 + 4

// decode implements codec.
func (c *plainCodec) decode(_ []byte, end int, base int64, _ bool) (int, error) {
	for ; c.next < base+int64(end); c.next += c.spanSize {
		if n := c.next/c.spanSize + 1; n > c.maxSize/int64(digestBytes) {
			return 0, refuse(ClassLimit, c.next, fmt.Errorf("digests of %d spans: %w", n, ErrTooLarge))
		}
		c.found = append(c.found, cut{off: c.next})
	}
	return end, nil
}

// cuts implements codec.
func (c *plainCodec) cuts(to []cut) []cut {
	to = append(to, c.found...)
	c.found = c.found[:0]
	return to
}

// close implements codec.
func (c *plainCodec) close() {}

// zinfo implements codec.
func (c *plainCodec) zinfo(layerSize int64) ([]extent, int64, error) {
	return plainZinfo(c.spanSize, layerSize)
}

// verdict implements codec.
func (c *plainCodec) verdict() error {
	if c.next == 0 {
		return &RejectError{RejectSpans, "the layer has no bytes"}
	}
	return nil
}
