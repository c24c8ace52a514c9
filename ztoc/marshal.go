package ztoc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// contents is all that goes into a zTOC.
type contents struct {
	compressedSize int64
	archiveSize    int64
	compression    Compression
	entries        *tape
	numEntries     int
	spans          *spanSet
	zinfo          []extent // the vector "checkpoints"
	zinfoSize      int64
	links          *linksBack // what marshal has learnt of hard links
}

// marshal gives the zTOC's parts in order, and their length. What is written
// when, and so what lies where, is what the official builder's calls give.
func (c *contents) marshal(s *spill, maxSize int64) ([]extent, int64, error) {
	w := newFBWriter(s)
	version := w.text(Version)
	tool := w.text(BuildTool)
	metadata, err := c.writeEntries(w, maxSize)
	if err != nil {
		return nil, 0, err
	}
	w.begin()
	w.ref(0, metadata)
	toc := w.finishTable()

	zinfo := w.byteVector(c.zinfo, c.zinfoSize)
	digests := c.writeDigests(w)
	w.begin()
	w.int32(1, int32(c.spans.n-1))
	w.ref(2, digests)
	w.ref(3, zinfo)
	w.int8(0, max(1, int8(c.compression)), 1)
	info := w.finishTable()

	w.begin()
	w.ref(0, version)
	w.ref(1, tool)
	w.ref(4, toc)
	w.int64(2, c.compressedSize)
	w.int64(3, c.archiveSize)
	w.ref(5, info)
	parts, err := w.finish(w.finishTable())
	if err != nil {
		return nil, 0, err
	}
	if w.n > maxSize {
		return nil, 0, refuse(ClassLimit, 0, fmt.Errorf("ztoc of %d bytes: %w", w.n, ErrTooLarge))
	}
	return parts, w.n, nil
}

// writeDigests writes the spans' digests and the vector of them.
func (c *contents) writeDigests(w *fbWriter) int64 {
	n := c.spans.n
	if n == 0 {
		return w.vector(0, nil)
	}
	const prefix = "sha256:"
	var text [len(prefix) + 64]byte
	copy(text[:], prefix)
	var first, step int64
	var sum [sha256.Size]byte
	from := c.spans.digests()
	for i := range n {
		if err := from.next(sum[:]); err != nil {
			if w.err == nil {
				w.err = err
			}
			return 0
		}
		hex.Encode(text[len(prefix):], sum[:])
		p := w.bytes(text[:])
		switch i {
		case 0:
			first = p
		case 1:
			step = p - first // 71 bytes, NUL and length are 76, always aligned
		}
	}
	return w.vector(n, func(i int) int64 { return first + int64(i)*step })
}

// writeEntries writes the table of each file and the vector of them. Both go
// from the last to the first.
func (c *contents) writeEntries(w *fbWriter, maxSize int64) (int64, error) {
	at := positions{spill: w.spill}
	ew := entryWriter{w: w, from: c.entries.backward(), links: c.links}
	for ew.from.more() {
		p := ew.write()
		if w.err == nil {
			w.err = ew.from.err
		}
		if w.err == nil {
			w.err = at.add(uint32(p))
		}
		if w.err != nil {
			return 0, w.err
		}
		if w.n > maxSize {
			return 0, refuse(ClassLimit, ew.entry.num[0], fmt.Errorf("ztoc: %w", ErrTooLarge))
		}
	}
	if err := ew.from.err; err != nil {
		return 0, err
	}
	var err error
	v := w.vector(c.numEntries, func(int) int64 {
		p, e := at.next()
		if err == nil {
			err = e
		}
		return int64(p)
	})
	return v, err
}

// entryWriter writes entries as it reads them. It keeps what one needs for the
// next.
type entryWriter struct {
	w     *fbWriter
	from  *tapeReader
	links *linksBack
	entry rawEntry
	time  []byte
	pax   []uint32
}

// write writes an entry and gives the position of its table.
func (ew *entryWriter) write() int64 {
	w, e, from := ew.w, &ew.entry, ew.from
	e.read(from)
	ew.time = appendModTime(ew.time[:0], e.num[5], e.num[6])

	text := from.text()
	ew.links.name(text)
	name := w.bytes(text)
	kind := w.text(entryTypes[e.kind])
	text = from.text()
	ew.links.target(e, text)
	link := w.bytes(text)
	uname := w.bytes(from.text())
	gname := w.bytes(from.text())
	mtime := w.bytes(ew.time)
	xattrs := ew.writePAX()

	w.begin()
	w.ref(0, name)
	w.ref(1, kind)
	w.int64(2, e.num[0])
	w.int64(3, e.num[1])
	w.ref(4, link)
	w.int64(5, e.num[2])
	w.int32(6, int32(uint32(e.num[3])))
	w.int32(7, int32(uint32(e.num[4])))
	w.ref(8, uname)
	w.ref(9, gname)
	w.ref(10, mtime)
	w.int64(11, e.num[7])
	w.int64(12, e.num[8])
	w.ref(13, xattrs)
	return w.finishTable()
}

// writePAX writes the entry's PAX records and the vector of them.
func (ew *entryWriter) writePAX() int64 {
	w := ew.w
	ew.pax = slices.Grow(ew.pax[:0], ew.entry.pax)
	for range ew.entry.pax {
		key := w.bytes(ew.from.text())
		value := w.bytes(ew.from.text())
		w.begin()
		w.ref(0, key)
		w.ref(1, value)
		ew.pax = append(ew.pax, uint32(w.finishTable()))
	}
	return w.vector(len(ew.pax), func(i int) int64 { return int64(ew.pax[i]) })
}

// plainZinfo is the vector "checkpoints" of an uncompressed layer: a FlatBuffers
// buffer of its own, with version, span size and layer size.
func plainZinfo(spanSize, size int64) ([]extent, int64, error) {
	w := newFBWriter(nil)
	w.begin()
	w.int32(0, 2)
	w.int64(1, spanSize)
	w.int64(2, size)
	es, err := w.finish(w.finishTable())
	return es, w.n, err
}
