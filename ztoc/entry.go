package ztoc

import (
	"encoding/binary"
	"time"
)

// The types of entries, as zTOCs name them.
const (
	TypeReg      = "reg"
	TypeDir      = "dir"
	TypeSymlink  = "symlink"
	TypeHardlink = "hardlink"
	TypeChar     = "char"
	TypeBlock    = "block"
	TypeFifo     = "fifo"
)

// Entry is what a zTOC says of one entry of the tar.
type Entry struct {
	Name     string // as it stands in the tar, nothing cleaned
	Type     string
	Offset   int64 // in the uncompressed stream, of the entry's data
	Size     int64 // as the tar says it, also where no data follows
	Linkname string
	Mode     int64 // permissions and the set-id and sticky bits
	UID, GID uint32
	Uname    string
	Gname    string
	ModTime  string // RFC 3339, "" where that has no such year
	DevMajor int64
	DevMinor int64
	PAX      []Record // sorted by key
}

// Record is a PAX record of an entry.
type Record struct{ Key, Value string }

// entryTypes numbers the types for a tape.
var entryTypes = [...]string{TypeReg, TypeDir, TypeSymlink, TypeHardlink, TypeChar, TypeBlock, TypeFifo}

// tarEntry is an Entry on its way to the zTOC.
type tarEntry struct {
	Entry
	kind      uint8 // index of entryTypes
	sec, nsec int64 // of ModTime
}

// appendTo appends e in the form that decode reads.
func (e *tarEntry) appendTo(p []byte) []byte {
	p = append(p, e.kind)
	for _, v := range [...]int64{e.Offset, e.Size, e.Mode, int64(e.UID), int64(e.GID), e.sec, e.nsec, e.DevMajor, e.DevMinor} {
		p = binary.AppendVarint(p, v)
	}
	for _, s := range [...]string{e.Name, e.Linkname, e.Uname, e.Gname} {
		p = appendString(p, s)
	}
	p = binary.AppendUvarint(p, uint64(len(e.PAX)))
	for _, r := range e.PAX {
		p = appendString(p, r.Key)
		p = appendString(p, r.Value)
	}
	return p
}

func appendString(p []byte, s string) []byte {
	p = binary.AppendUvarint(p, uint64(len(s)))
	return append(p, s...)
}

// rawEntry is an entry read back from a tape. Its strings are bytes of the
// tape, so that reading makes nothing.
type rawEntry struct {
	kind uint8
	num  [9]int64 // offset, size, mode, uid, gid, sec, nsec, devmajor, devminor
	str  [4][]byte
	pax  [][2][]byte
}

// decode reads what appendTo wrote.
func (e *rawEntry) decode(p []byte) {
	e.kind, p = p[0], p[1:]
	for i := range e.num {
		v, n := binary.Varint(p)
		e.num[i], p = v, p[n:]
	}
	for i := range e.str {
		e.str[i], p = takeString(p)
	}
	count, n := binary.Uvarint(p)
	p = p[n:]
	e.pax = e.pax[:0]
	for range count {
		var r [2][]byte
		r[0], p = takeString(p)
		r[1], p = takeString(p)
		e.pax = append(e.pax, r)
	}
}

func takeString(p []byte) (s, rest []byte) {
	size, n := binary.Uvarint(p)
	end := n + int(size)
	return p[n:end], p[end:]
}

// appendModTime appends the time as a zTOC has it: RFC 3339 with as many digits
// as are needed, always in UTC, or nothing for years that the format lacks.
func appendModTime(p []byte, sec, nsec int64) []byte {
	t := time.Unix(sec, nsec).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return p
	}
	return t.AppendFormat(p, time.RFC3339Nano)
}
