package ztoc

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// maxSpecial bounds extended headers, long names and sparse maps.
const maxSpecial = 1 << 20

// tarState is what the walk reads next.
type tarState int

const (
	atHeader  tarState = iota // a header block
	atZero                    // the block after a zero block
	inData                    // what is stepped over
	inPadding                 // what may be missing at the end of the stream
	inSpecial                 // the content of an extended header or long name
	inOldMap                  // a further block of an old GNU sparse map
	inMap                     // the map of a sparse file, in front of its data
)

// tarWalk reads the uncompressed stream as a tar, as it comes, and writes the
// entries to a tape. It reads and refuses what Go's archive/tar reads and
// refuses.
type tarWalk struct {
	state tarState
	pos   int64  // bytes of the stream so far
	left  int64  // bytes of the entry's data, or of the special content, to come
	pad   int64  // bytes of padding after them
	part  []byte // of a block that is not all there
	hdr   tarHeader
	blk   [tarBlock]byte // that hdr's strings are in

	// What special headers have said for the entry to come.
	flag               byte   // of the one being read
	special            []byte // its content
	pax                paxRecords
	longName, longLink []byte
	sparse             sparseCheck
	sparseRead         int64 // bytes of sparse map so far, with the next block
	lines, wanted      int   // of a sparse map in front of the data; 1 is not known yet

	entries    *tape
	fixed      []byte // for the next entry
	count      int
	unreadable int // files that clients take, but cannot open
	maxEntries int
	maxBytes   int64
	archive    int64  // where the archive ends
	reject     reject // whether clients take the table
	over       bool   // no more bytes are wanted
	err        error  // *Error, or of the spill
}

func newTarWalk(s *spill, o Options) *tarWalk {
	return &tarWalk{entries: &tape{spill: s}, maxEntries: o.MaxEntries, maxBytes: o.MaxTOCBytes}
}

// feed takes the next bytes of the stream, and keeps none of them.
func (t *tarWalk) feed(p []byte) {
	for len(p) > 0 && !t.over {
		switch t.state {
		case inData, inSpecial:
			n := min(t.left, int64(len(p)))
			if t.state == inSpecial {
				t.special = append(t.special, p[:n]...)
			}
			t.pos += n
			p = p[n:]
			if t.left -= n; t.left == 0 {
				t.endContent()
			}
		case inPadding:
			n := min(t.pad, int64(len(p)))
			t.pos += n
			p = p[n:]
			if t.pad -= n; t.pad == 0 {
				t.state = atHeader
			}
		default:
			n := min(tarBlock-len(t.part), len(p))
			t.pos += int64(n)
			if b := p[:n]; n == tarBlock {
				t.block(b)
			} else if t.part = append(t.part, b...); len(t.part) == tarBlock {
				b, t.part = t.part, t.part[:0]
				t.block(b)
			}
			p = p[n:]
		}
	}
}

// finish ends the stream, with err unless it is nil, and gives the walk's
// verdict.
func (t *tarWalk) finish(err error) error {
	switch {
	case t.over:
	case err != nil:
		t.end(err)
	case t.state == inPadding, (t.state == atHeader || t.state == atZero) && len(t.part) == 0:
		t.end(nil)
	default:
		t.end(refuse(ClassTarHeader, t.pos, fmt.Errorf("tar: %w", ErrTruncated)))
	}
	return t.err
}

// end ends the walk.
func (t *tarWalk) end(err error) {
	t.over, t.err, t.archive = true, err, t.pos
	t.special, t.pax, t.longName, t.longLink = nil, paxRecords{}, nil, nil
}

// refuse ends the walk with a fault of the archive.
func (t *tarWalk) refuse(what string) {
	t.end(refuse(ClassTarHeader, t.pos, fmt.Errorf("%s: %w", what, ErrNotTar)))
}

// endContent goes on behind data or special content.
func (t *tarWalk) endContent() {
	if t.state == inSpecial && !t.endSpecial() {
		return
	}
	t.state = atHeader
	if t.pad > 0 {
		t.state = inPadding
	}
}

// content goes on with size bytes of content, in the given state.
func (t *tarWalk) content(s tarState, size int64) {
	t.state, t.left, t.pad = s, size, -size&(tarBlock-1)
	if size == 0 {
		t.endContent()
	}
}

// block takes a whole block.
func (t *tarWalk) block(b []byte) {
	switch t.state {
	case atHeader:
		if isZero(b) {
			t.state = atZero
			return
		}
		t.header(b)
	case atZero:
		if !isZero(b) {
			t.refuse("tar: a block follows a zero block")
			return
		}
		t.end(nil)
	case inOldMap:
		t.oldMap(b)
	case inMap:
		t.mapBlock(b)
	}
}

var zeroBlock [tarBlock]byte

func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b, zeroBlock[:]) }

// header takes a header block: of an entry, or of something that says more of
// the entry to come.
func (t *tarWalk) header(b []byte) {
	copy(t.blk[:], b)
	format := formatOf(t.blk[:])
	if format == tarUnknown {
		t.refuse("tar header: wrong checksum")
		return
	}
	h := &t.hdr
	if !h.parse(t.blk[:], format) {
		t.refuse("tar header: a field is not a number")
		return
	}
	if h.size < 0 && !headerOnly(h.flag) {
		t.refuse("tar header: negative size")
		return
	}
	switch h.flag {
	case 'x', 'g', 'L', 'K':
		if h.size > maxSpecial {
			t.refuse("tar header: extended header too long")
			return
		}
		t.flag, t.special = h.flag, t.special[:0]
		if int64(cap(t.special)) < h.size {
			t.special = make([]byte, 0, h.size)
		}
		t.content(inSpecial, h.size)
	default:
		t.entry(format)
	}
}

// headerOnly says that an entry of this type has no data, whatever its size.
func headerOnly(flag byte) bool { return flag >= '1' && flag <= '6' }

// endSpecial takes the content of a special header. It reports whether the walk
// goes on.
func (t *tarWalk) endSpecial() bool {
	switch t.flag {
	case 'L':
		t.longName, t.special = cstring(t.special), t.longName
	case 'K':
		t.longLink, t.special = cstring(t.special), t.longLink
	default:
		content := t.special
		t.special = t.pax.buf
		if !t.pax.parse(content) {
			t.refuse("tar: malformed extended header")
			return false
		}
		if t.flag == 'g' {
			t.badType('g')
			return false
		}
	}
	return true
}

func (t *tarWalk) badType(flag byte) {
	t.end(refuse(ClassTarType, t.pos, fmt.Errorf("tar entry of type %q: %w", flag, ErrUnsupported)))
}

// entry takes the header of an entry, with all that was said of it.
func (t *tarWalk) entry(format tarFormat) {
	h := &t.hdr
	if !h.apply(&t.pax) {
		t.refuse("tar: bad value in an extended header")
		return
	}
	if len(t.longName) > 0 {
		h.name = t.longName
	}
	if len(t.longLink) > 0 {
		h.link = t.longLink
	}
	if h.flag == 0 {
		h.flag = '0'
		if n := len(h.name); n > 0 && h.name[n-1] == '/' {
			h.flag = '5'
		}
	}
	t.left = h.size
	if headerOnly(h.flag) {
		t.left = 0
	}
	if t.left < 0 {
		t.refuse("tar: negative size")
		return
	}
	if h.flag == 'S' {
		t.beginOldMap(format)
		return
	}
	form := t.pax.sparseForm()
	switch {
	case form == notSparse:
		t.keep()
	case !h.applySparse(&t.pax):
		t.refuse("tar: size of a sparse file")
	case form == mapInFront:
		t.beginMap()
	default:
		t.endMap(parseSparse(&t.pax, h.size))
	}
}

// kinds are the indexes of entryTypes by type flag, '0' first.
const kinds = "\x00\x03\x02\x04\x05\x01\x06"

// keep writes the entry to the tape and goes on to its data.
func (t *tarWalk) keep() {
	h := &t.hdr
	if h.flag < '0' || h.flag > '6' {
		t.badType(h.flag)
		return
	}
	if t.keepEntry(); t.entries.err != nil {
		t.end(t.entries.err)
		return
	}
	t.reject.entry(t.pos, h.size, h.flag == '0')
	if !readable(h) || t.pax.sparseForm() != notSparse {
		t.unreadable++
	}
	t.pax.clear()
	t.longName, t.longLink = t.longName[:0], t.longLink[:0]
	t.count++
	if over := t.overBound(); over != nil {
		t.end(refuse(ClassLimit, t.pos, fmt.Errorf("table of contents of %d files: %w", t.count, over)))
		return
	}
	t.content(inData, t.left)
}

// overBound gives the bound that the entries are beyond, nil for none.
func (t *tarWalk) overBound() error {
	switch {
	case t.count > t.maxEntries:
		return ErrMaxEntries
	case t.entries.size() > t.maxBytes:
		return ErrTooLarge
	}
	return nil
}

// keepEntry writes the entry to the tape, so that reading it backward gives what
// rawEntry.read expects.
func (t *tarWalk) keepEntry() {
	h := &t.hdr
	for i := len(t.pax.list) - 1; i >= 0; i-- {
		t.entries.text(t.pax.value(i))
		t.entries.text(t.pax.key(i))
	}
	for _, s := range [...][]byte{h.gname, h.uname, h.link, h.name} {
		t.entries.text(s)
	}
	p := append(t.fixed[:0], kinds[h.flag-'0'])
	for _, v := range [...]int64{
		t.pos, h.size, h.mode, int64(uint32(h.uid)), int64(uint32(h.gid)), h.sec, h.nsec, h.devMajor, h.devMinor, int64(len(t.pax.list)),
	} {
		p = binary.AppendVarint(p, v)
	}
	t.fixed = p
	t.entries.text(p)
}

// readable says that clients can open the file: they compare what the tar says
// with what the zTOC says, which has ids of 32 bits and years of four digits.
func readable(h *tarHeader) bool {
	return h.uid == int64(uint32(h.uid)) && h.gid == int64(uint32(h.gid)) && hasModTime(h.sec, h.nsec)
}
