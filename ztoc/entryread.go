package ztoc

import "fmt"

// entryReader reads entries of a zTOC. It is for one goroutine.
type entryReader struct {
	z    *ZTOC
	f    *fbReader
	refs *fbReader // for the vector of entries, which lies apart from them
	last int64     // position of the entry that was read before
	// Nothing but vtables is shared by official builders, so all strings and
	// tables that are read are less than the file. One in which all entries share
	// a long string, or a thousand records, would be read for ever.
	budget int64
	names  map[string]string // owners, of which there are few
}

func newEntryReader(z *ZTOC) *entryReader {
	return &entryReader{
		z: z, f: newFBReader(z.r, 0, z.size), refs: newFBReader(z.r, 0, z.size),
		budget: z.size, names: map[string]string{},
	}
}

// The least that things take in a zTOC, with the reference to each.
const (
	minEntry  = 4 + 4 + 2*4 // its vtable, a name and a type
	minRecord = 4 + 4 + 2*4
	minText   = 4 + 1 // length and NUL
)

// table is the table of entry i. Entries lie in the order in which they are
// listed: then reading them all is reading the file once.
func (er *entryReader) table(i int64) table {
	off := er.refs.ref(er.z.entries.off + 4*i)
	if er.f.err == nil {
		er.f.err = er.refs.err
	}
	if off <= er.last {
		er.f.invalid("entry %d is out of order", i)
	}
	if er.f.err != nil {
		return table{}
	}
	er.last = off
	er.take(minEntry)
	return er.f.table(off)
}

// name is the name of entry i, good until the next call.
func (er *entryReader) name(i int64) []byte {
	return er.spend(er.f.text(er.table(i), 0))
}

// take takes n bytes of the budget.
func (er *entryReader) take(n int64) {
	if er.budget -= n; er.budget < 0 {
		er.f.invalid("entries share their strings or records")
	}
}

// again begins anew: what has been read may be read once more.
func (er *entryReader) again() { er.last, er.budget = 0, er.z.size }

// spend gives a string's bytes, within the budget.
func (er *entryReader) spend(v vector) []byte {
	if v.off > 0 {
		er.take(minText + v.n)
	}
	return er.f.bytes(v.off, v.n)
}

func (er *entryReader) string(t table, slot int) string {
	return string(er.spend(er.f.text(t, slot)))
}

// shared is string for one that many entries have.
func (er *entryReader) shared(t table, slot int) string {
	p := er.spend(er.f.text(t, slot))
	if s, ok := er.names[string(p)]; ok {
		return s
	}
	s := string(p)
	if len(s) <= 64 && len(er.names) < 1024 {
		er.names[s] = s
	}
	return s
}

// read gives entry i.
func (er *entryReader) read(i int64) Entry {
	f, t := er.f, er.table(i)
	e := Entry{
		Name:     er.string(t, 0),
		Type:     er.shared(t, 1),
		Offset:   f.int64Field(t, 2),
		Size:     f.int64Field(t, 3),
		Linkname: er.string(t, 4),
		Mode:     f.int64Field(t, 5),
		UID:      f.uint32Field(t, 6),
		GID:      f.uint32Field(t, 7),
		Uname:    er.shared(t, 8),
		Gname:    er.shared(t, 9),
		ModTime:  er.string(t, 10),
		DevMajor: f.int64Field(t, 11),
		DevMinor: f.int64Field(t, 12),
	}
	if e.Offset < 0 || e.Size < 0 && e.Type == TypeReg {
		f.invalid("%d bytes at %d", e.Size, e.Offset)
	}
	pax := f.vectorField(t, 13, 4)
	for k := int64(0); k < pax.n && f.err == nil; k++ {
		er.take(minRecord)
		rec := f.table(f.ref(pax.off + 4*k))
		e.PAX = append(e.PAX, Record{er.string(rec, 0), er.string(rec, 1)})
	}
	return e
}

// MultiSpanFiles counts the entries that begin in one span and end in another:
// those whose last byte's successor is in another span than the first byte, as
// the soci tools count. It reads no names. Errors are as those of Entries.
func (z *ZTOC) MultiSpanFiles() (int, error) {
	s, err := z.spans()
	if err != nil {
		return 0, err
	}
	er := newEntryReader(z)
	n := 0
	for i := range z.entries.n {
		t := er.table(i)
		off, size := er.f.int64Field(t, 2), er.f.int64Field(t, 3)
		if er.f.err != nil {
			return 0, fmt.Errorf("read ztoc entry %d: %w", i, er.f.err)
		}
		if s.of(off) != s.of(endOf(off, size)) {
			n++
		}
	}
	return n, nil
}
