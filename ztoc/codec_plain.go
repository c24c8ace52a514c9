package ztoc

// plainCodec is for layers that are not compressed: spans of equal size, and
// nothing to know at their beginnings.
type plainCodec struct {
	spanSize int64
	next     int64 // where the next span begins
	found    []cut
}

// decode implements codec.
func (c *plainCodec) decode(_ []byte, end int, base int64, _ bool) (int, error) {
	for ; c.next < base+int64(end); c.next += c.spanSize {
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
