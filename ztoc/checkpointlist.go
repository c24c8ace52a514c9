package ztoc

// Checkpoint is where decompression can begin: at the start of a span.
type Checkpoint struct {
	In   int64 // offset in the compressed layer, of the span's first byte
	Out  int64 // in the uncompressed stream
	Bits int   // how many high bits of the first byte belong to the span; 0: all 8
}

// Checkpoints gives that of each span. Errors are as those of Table.
func (z *ZTOC) Checkpoints() ([]Checkpoint, error) {
	s, err := z.spans()
	if err != nil {
		return nil, err
	}
	list := make([]Checkpoint, s.table.Len())
	for i := range list {
		list[i] = Checkpoint{s.table.off(i), s.out[i], int(s.bits[i])}
	}
	return list, nil
}
