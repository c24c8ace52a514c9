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

// rawEntry is what stands first of an entry on a tape that is read backward.
// Behind it come its texts: name, link, owner, group, then of each PAX record
// the key and the value.
type rawEntry struct {
	kind uint8
	num  [9]int64 // offset, size, mode, uid, gid, sec, nsec, devmajor, devminor
	pax  int      // number of records
}

// read reads what tarWalk.keepEntry wrote last.
func (e *rawEntry) read(r *tapeReader) {
	p := r.text()
	if len(p) == 0 {
		return // r has failed
	}
	e.kind, p = p[0], p[1:]
	for i := range e.num {
		v, n := binary.Varint(p)
		e.num[i], p = v, p[n:]
	}
	n, _ := binary.Varint(p)
	e.pax = int(n)
}

// hasModTime says that appendModTime has a text for the time.
func hasModTime(sec, nsec int64) bool {
	y := time.Unix(sec, nsec).UTC().Year()
	return y >= 0 && y <= 9999
}

// appendModTime appends the time as a zTOC has it: RFC 3339 with as many digits
// as are needed, always in UTC, or nothing for years that the format lacks.
func appendModTime(p []byte, sec, nsec int64) []byte {
	if !hasModTime(sec, nsec) {
		return p
	}
	return time.Unix(sec, nsec).UTC().AppendFormat(p, time.RFC3339Nano)
}
