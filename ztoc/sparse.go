package ztoc

import "bytes"

// The keys of sparse files.
const (
	sparseOffset    = "GNU.sparse.offset"
	sparseNumBytes  = "GNU.sparse.numbytes"
	sparseMap       = "GNU.sparse.map"
	sparseNumBlocks = "GNU.sparse.numblocks"
	sparseName      = "GNU.sparse.name"
	sparseMajor     = "GNU.sparse.major"
	sparseMinor     = "GNU.sparse.minor"
	sparseSize      = "GNU.sparse.size"
	sparseRealSize  = "GNU.sparse.realsize"
)

// sparseForm is how the map of a sparse file is written.
type sparseForm int

const (
	notSparse  sparseForm = iota
	mapInPAX              // versions 0.0 and 0.1
	mapInFront            // version 1.0: in front of the data
)

// sparseForm tells by the records whether the file is sparse, and how.
func (p *paxRecords) sparseForm() sparseForm {
	return sparseFormOf(string(p.find(sparseMajor)), string(p.find(sparseMinor)), len(p.find(sparseMap)) > 0)
}

func sparseFormOf(major, minor string, hasMap bool) sparseForm {
	switch {
	case major == "0" && (minor == "0" || minor == "1"):
		return mapInPAX
	case major == "1" && minor == "0":
		return mapInFront
	case major == "" && minor == "" && hasMap:
		return mapInPAX
	}
	return notSparse
}

// sparse says that the entry's data are not the file's content, but its parts
// that are no holes.
func (e *Entry) sparse() bool {
	var major, minor string
	hasMap := false
	for _, r := range e.PAX {
		switch r.Key {
		case sparseMajor:
			major = r.Value
		case sparseMinor:
			minor = r.Value
		case sparseMap:
			hasMap = r.Value != ""
		}
	}
	return sparseFormOf(major, minor, hasMap) != notSparse
}

// applySparse gives the header the sparse file's own name and size.
func (h *tarHeader) applySparse(p *paxRecords) bool {
	if name := p.find(sparseName); len(name) > 0 {
		h.name = name
	}
	size := p.find(sparseSize)
	if len(size) == 0 {
		size = p.find(sparseRealSize)
	}
	if len(size) == 0 {
		return true
	}
	var ok bool
	h.size, ok = parseDecimal(size)
	return ok
}

// sparseCheck sees that the parts of a sparse file that have bytes follow one
// another inside the file. It keeps none of them.
type sparseCheck struct {
	end int64 // of the part before
	bad bool
}

// part takes the next part.
func (s *sparseCheck) part(off, size int64) {
	s.bad = s.bad || off < s.end || size < 0 || off > 1<<63-1-size
	s.end = off + size
}

// valid is the verdict for a file of that size.
func (s *sparseCheck) valid(size int64) bool { return !s.bad && s.end <= size && size >= 0 }

// fields takes offsets and sizes in turn, as many as two times n, that stand one
// after another in p with a separator between them. It reports whether all of
// them are numbers.
func (s *sparseCheck) fields(p []byte, separator byte, n int64) bool {
	var off int64
	for i := range 2 * n {
		field := p
		if k := bytes.IndexByte(p, separator); k >= 0 {
			field, p = p[:k], p[k+1:]
		}
		v, ok := parseDecimal(field)
		if !ok {
			return false
		}
		if i%2 == 0 {
			off = v
		} else {
			s.part(off, v)
		}
	}
	return true
}

// parseSparse checks the map of a version 0 file of that size.
func parseSparse(p *paxRecords, size int64) bool {
	n, ok := parseDecimal(p.find(sparseNumBlocks))
	if !ok || n < 0 || n > maxSpecial {
		return false
	}
	m := p.find(sparseMap)
	fields := int64(0)
	if len(m) > 0 {
		fields = int64(bytes.Count(m, []byte(","))) + 1
	}
	var s sparseCheck
	return fields == 2*n && s.fields(m, ',', n) && s.valid(size)
}

// beginMap reads the map that stands in front of a sparse file's data.
func (t *tarWalk) beginMap() {
	t.special, t.state, t.sparseRead, t.lines, t.wanted = t.special[:0], inMap, 0, 0, 1
	t.readMap()
}

// mapBlock takes a block of that map.
func (t *tarWalk) mapBlock(b []byte) {
	if need := len(t.special) + tarBlock; need > cap(t.special) {
		t.special = append(make([]byte, 0, min(2*need, maxSpecial+tarBlock)), t.special...)
	}
	t.special = append(t.special, b...)
	t.lines += bytes.Count(b, []byte("\n"))
	t.left -= tarBlock
	t.readMap()
}

// readMap reads the map when all of its lines are there. The first says how many
// pairs of lines follow.
func (t *tarWalk) readMap() {
	if t.wanted == 1 && t.lines > 0 {
		first, _, _ := bytes.Cut(t.special, []byte("\n"))
		n, ok := parseDecimal(first)
		if !ok || n < 0 || n > maxSpecial {
			t.endMap(false)
			return
		}
		t.wanted = 1 + 2*int(n)
	}
	if t.lines >= t.wanted {
		_, rest, _ := bytes.Cut(t.special, []byte("\n"))
		var s sparseCheck
		t.endMap(s.fields(rest, '\n', int64(t.wanted-1)/2) && s.valid(t.hdr.size))
		return
	}
	if t.sparseRead += tarBlock; t.sparseRead > maxSpecial || t.left < tarBlock {
		t.endMap(false)
	}
}

// endMap keeps a sparse file whose map is in order.
func (t *tarWalk) endMap(ok bool) {
	if !ok || headerOnly(t.hdr.flag) {
		t.refuse("tar: bad map of a sparse file")
		return
	}
	t.keep()
}

// beginOldMap reads the map of an old GNU sparse file: the entry has no place
// in a zTOC, but a malformed one is another fault.
func (t *tarWalk) beginOldMap(format tarFormat) {
	size, ok := parseNumeric(t.blk[483:495])
	if format != tarGNU || !ok {
		t.refuse("tar: bad header of a sparse file")
		return
	}
	t.hdr.size, t.sparse, t.sparseRead = size, sparseCheck{}, 0
	t.oldMap(t.blk[386:483])
}

// oldMap reads pairs of offset and size, and the byte behind them that says
// whether another block of them follows.
func (t *tarWalk) oldMap(b []byte) {
	if t.sparseRead += int64(len(b)); t.sparseRead >= maxSpecial {
		t.refuse("tar: map of a sparse file too long")
		return
	}
	n := len(b) / 24
	for i := range n {
		off, size := b[24*i:][:12], b[24*i+12:][:12]
		if off[0] == 0 {
			break
		}
		o, ok1 := parseNumeric(off)
		s, ok2 := parseNumeric(size)
		if !ok1 || !ok2 {
			t.refuse("tar: bad map of a sparse file")
			return
		}
		t.sparse.part(o, s)
	}
	switch {
	case b[24*n] > 0:
		t.state = inOldMap
	case !t.sparse.valid(t.hdr.size):
		t.refuse("tar: bad map of a sparse file")
	default:
		t.badType('S')
	}
}
