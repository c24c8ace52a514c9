package ztoc

import "encoding/binary"

const (
	checkpointChunk  = 8  // checkpoints a piece of memory holds
	checkpointMemory = 16 // pieces that are kept in memory; the rest is spilled
)

// checkpoints collects the packed checkpoints of a gzip layer.
type checkpoints struct {
	spill *spill
	count int64
	full  []extent
	inMem int
	cur   []byte
}

// add packs one more. window is the 32 KiB of output before out.
func (c *checkpoints) add(in, out int64, bits int, window []byte) error {
	if len(c.cur)+checkpointSize > cap(c.cur) {
		if err := c.flush(); err != nil {
			return err
		}
		if c.cur == nil {
			c.cur = make([]byte, 0, checkpointChunk*checkpointSize)
		}
	}
	c.cur = binary.LittleEndian.AppendUint64(c.cur, uint64(in))
	c.cur = binary.LittleEndian.AppendUint64(c.cur, uint64(out))
	c.cur = append(c.cur, byte(bits))
	c.cur = append(c.cur, window[:windowSize]...)
	c.count++
	return nil
}

func (c *checkpoints) flush() error {
	if len(c.cur) == 0 {
		return nil
	}
	if c.inMem < checkpointMemory {
		c.full = append(c.full, extent{mem: c.cur, n: int64(len(c.cur))})
		c.inMem++
		c.cur = nil
		return nil
	}
	e, err := c.spill.add(c.cur)
	if err != nil {
		return err
	}
	c.full = append(c.full, e)
	c.cur = c.cur[:0]
	return nil
}

// size is the length of the blob that all of them make.
func (c *checkpoints) size() int64 { return zinfoHeader + c.count*checkpointSize }

// blob gives the parts of the blob: header, then the checkpoints.
func (c *checkpoints) blob(spanSize int64) []extent {
	head := make([]byte, 0, zinfoHeader)
	head = binary.LittleEndian.AppendUint32(head, uint32(c.count))
	head = binary.LittleEndian.AppendUint64(head, uint64(spanSize))
	es := append([]extent{{mem: head, n: zinfoHeader}}, c.full...)
	if len(c.cur) > 0 {
		es = append(es, extent{mem: c.cur, n: int64(len(c.cur))})
	}
	return es
}
