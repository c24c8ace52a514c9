package ztoc

import (
	"bytes"
	"encoding/binary"
)

const tarBlock = 512

// tarFormat is the layout of a header block.
type tarFormat int

const (
	tarUnknown tarFormat = iota // the checksum is wrong
	tarV7
	tarUSTAR // and PAX
	tarGNU
	tarSTAR
)

// tarHeader is what one header block says, and what the records that apply to
// it have changed. Its strings lie in the walk's buffers.
type tarHeader struct {
	flag                     byte
	name, link, uname, gname []byte
	size, mode, uid, gid     int64
	sec, nsec                int64 // nsec may be negative
	devMajor, devMinor       int64
	joined                   []byte // buffer for a name with its prefix
}

// formatOf checks a block's sum and tells its layout by the magic.
func formatOf(b []byte) tarFormat {
	want, ok := parseOctal(b[148:156])
	if !ok {
		return tarUnknown
	}
	unsigned, signed := blockSums(b)
	if want != unsigned && want != signed {
		return tarUnknown
	}
	switch {
	case string(b[257:263]) == "ustar\x00" && string(b[508:512]) == "tar\x00":
		return tarSTAR
	case string(b[257:263]) == "ustar\x00":
		return tarUSTAR
	case string(b[257:265]) == "ustar  \x00":
		return tarGNU
	}
	return tarV7
}

// blockSums are the sums of a header block's bytes, as unsigned numbers and, for
// the sake of Sun's tar, as signed ones. The field of the sum itself counts as
// spaces.
func blockSums(b []byte) (unsigned, signed int64) {
	// Eight bytes at a time into four lanes of 16 bits, twice: 64 words of 255
	// fit into a lane.
	const lanes = 0x00ff00ff00ff00ff
	var even, odd, high uint64
	for i := 0; i < tarBlock; i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		switch i {
		case 144: // the sum is in 148 to 155
			v = v&0xffffffff | 0x20202020<<32
		case 152:
			v = v&^0xffffffff | 0x20202020
		}
		even += v & lanes
		odd += v >> 8 & lanes
		high += v >> 7 & 0x0101010101010101
	}
	sum := func(v uint64) (s int64) {
		for ; v > 0; v >>= 16 {
			s += int64(v & 0xffff)
		}
		return s
	}
	unsigned = sum(even) + sum(odd)
	var negative int64
	for ; high > 0; high >>= 8 {
		negative += int64(high & 0xff)
	}
	return unsigned, unsigned - 256*negative
}

// parse reads a block of a known format. It reports whether all numbers in it
// are numbers.
func (h *tarHeader) parse(b []byte, format tarFormat) bool {
	*h = tarHeader{joined: h.joined}
	ok := true
	number := func(from, to int) int64 {
		n, good := parseNumeric(b[from:to])
		ok = ok && good
		return n
	}
	h.flag = b[156]
	h.name, h.link = cstring(b[:100]), cstring(b[157:257])
	h.mode, h.uid, h.gid = number(100, 108), number(108, 116), number(116, 124)
	h.size, h.sec = number(124, 136), number(136, 148)
	if format == tarV7 {
		return ok
	}
	h.uname, h.gname = cstring(b[265:297]), cstring(b[297:329])
	h.devMajor, h.devMinor = number(329, 337), number(337, 345)
	var prefix []byte
	switch format {
	case tarUSTAR:
		prefix = cstring(b[345:500])
	case tarSTAR:
		prefix = cstring(b[345:476])
		number(476, 488) // access time
		number(488, 500) // change time
	case tarGNU:
		prefix = gnuPrefix(b)
	}
	if len(prefix) > 0 {
		h.joined = append(append(append(h.joined[:0], prefix...), '/'), h.name...)
		h.name = h.joined
	}
	return ok
}

// gnuPrefix is the name's prefix in a GNU header, which has no such field: old
// versions of Go's archive/tar wrote it where GNU has times. It is one if those
// are no numbers, but text.
func gnuPrefix(b []byte) []byte {
	for _, field := range [][]byte{b[345:357], b[357:369]} {
		if field[0] == 0 {
			continue
		}
		if _, ok := parseNumeric(field); !ok {
			prefix := cstring(b[345:500])
			for _, c := range prefix {
				if c >= 0x80 {
					return nil
				}
			}
			return prefix
		}
	}
	return nil
}

// cstring is b up to its first NUL.
func cstring(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// parseNumeric reads a numeric field: octal digits, or a number in two's
// complement if the top bit is set.
func parseNumeric(b []byte) (int64, bool) {
	if b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	invert := byte(0)
	if b[0]&0x40 != 0 {
		invert = 0xff
	}
	var x uint64
	for i, c := range b {
		if c ^= invert; i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, false
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, false
	}
	if invert != 0 {
		return ^int64(x), true
	}
	return int64(x), true
}

// parseOctal reads octal digits with spaces and NULs around them; none is 0.
func parseOctal(b []byte) (int64, bool) {
	var x int64
	digits, i := 0, 0
	for i < len(b) && (b[i] == ' ' || b[i] == 0) {
		i++
	}
	for ; i < len(b) && b[i] >= '0' && b[i] <= '7'; i++ {
		x = x<<3 | int64(b[i]-'0')
		digits++
	}
	if i == len(b) || b[i] == 0 && digits > 0 {
		return x, true // what follows a NUL is not looked at
	}
	for _, c := range b[i:] {
		if c != ' ' && c != 0 {
			return 0, false
		}
	}
	return x, true
}

// apply changes the header as its PAX records say. It reports whether they are
// in order.
func (h *tarHeader) apply(records *paxRecords) bool {
	for i := range records.list {
		value := records.value(i)
		if len(value) == 0 {
			continue // keep what the header has
		}
		ok := true
		switch string(records.key(i)) {
		case "path":
			h.name = value
		case "linkpath":
			h.link = value
		case "uname":
			h.uname = value
		case "gname":
			h.gname = value
		case "uid":
			h.uid, ok = parseDecimal(value)
		case "gid":
			h.gid, ok = parseDecimal(value)
		case "size":
			h.size, ok = parseDecimal(value)
		case "mtime":
			h.sec, h.nsec, ok = parsePAXTime(value)
		case "atime", "ctime":
			_, _, ok = parsePAXTime(value)
		}
		if !ok {
			return false
		}
	}
	return true
}

// parseDecimal reads what strconv.ParseInt reads, and makes no text of it, which
// may be long.
func parseDecimal(b []byte) (int64, bool) {
	negative := false
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		negative = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	var x uint64
	for _, c := range b {
		if c < '0' || c > '9' || x > (1<<63)/10 {
			return 0, false
		}
		x = 10*x + uint64(c-'0')
	}
	switch {
	case negative && x <= 1<<63:
		return -int64(x), true
	case !negative && x < 1<<63:
		return int64(x), true
	}
	return 0, false
}

// parsePAXTime reads seconds with a fraction, of which nine digits count.
func parsePAXTime(b []byte) (sec, nsec int64, ok bool) {
	whole, fraction, _ := bytes.Cut(b, []byte("."))
	if sec, ok = parseDecimal(whole); !ok {
		return 0, 0, false
	}
	unit := int64(1e8)
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		nsec += int64(c-'0') * unit
		unit /= 10
	}
	if whole[0] == '-' {
		nsec = -nsec
	}
	return sec, nsec, true
}
