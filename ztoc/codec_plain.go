package ztoc

import (
	"crypto/sha256"
	"fmt"
)

// plainCodec is for layers that are not compressed: spans of equal size, which
// spanAccount knows, and nothing to know at their beginnings.
type plainCodec struct {
	spanSize int64
	maxSize  int64 // of the zTOC
	size     int64 // of the layer so far
}

// digestBytes is what the digest of a span takes in a zTOC: its text, a NUL, its
// length, and a reference to it.
const digestBytes = len(digestPrefix) + 2*sha256.Size + 1 + 4 + 4

// decode implements codec.
func (c *plainCodec) decode(_ []byte, end int, base int64, _ bool) (int, error) {
	c.size = base + int64(end)
	if most := c.maxSize / int64(digestBytes); c.size > 0 && (c.size-1)/c.spanSize >= most {
		return 0, refuse(ClassLimit, most*c.spanSize, fmt.Errorf("more than %d spans of %d bytes: %w", most, c.spanSize, ErrTooLarge))
	}
	return end, nil
}

// cuts implements codec.
func (c *plainCodec) cuts(to []cut) []cut { return to }

// close implements codec.
func (c *plainCodec) close() {}

// zinfo implements codec.
func (c *plainCodec) zinfo(layerSize int64) ([]extent, int64, error) {
	return plainZinfo(c.spanSize, layerSize)
}

// verdict implements codec.
func (c *plainCodec) verdict() error {
	if c.size == 0 {
		return &RejectError{RejectSpans, "the layer has no bytes"}
	}
	return nil
}
