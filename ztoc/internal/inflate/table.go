package inflate

import (
	"math/bits"
	"sync"
)

const (
	litBits  = 11 // index bits of the primary literal/length table
	distBits = 9  // index bits of the primary distance table
	maxBits  = 15 // longest code
	numLit   = 288
	numDist  = 32

	// A subtable with 2^d slots takes at least d+1 symbols, so 57 of 16 slots
	// at most follow the literals' primary table, and 4 of 64 (and a small one)
	// the distances'.
	litSize  = 1<<litBits + 1024
	distSize = 1<<distBits + 512
)

// An entry of a decoding table, from the low bits up:
//
//	 0..7   bits to drop: the code's and the extra bits'; for a pointer, the primary bits
//	 8..11  bits of the code alone; for a pointer, the index bits of the subtable
//	13..15  exceptional, end of block, pointer
//	16..30  base value, literal, or start of the subtable
//	31      literal
const (
	isLiteral     = 1 << 31
	isPointer     = 1 << 15
	isEnd         = 1 << 14
	isExceptional = 1 << 13 // set with both of the above, alone for what has no meaning
)

// symbols are sorted by code; a power of two, so that no index needs a check.
type symbols [512]uint16

// tables are the two codes of a block.
type tables struct {
	lit  [litSize]uint32
	dist [distSize]uint32
}

// litEntry and distEntry are the entries of each symbol with a code of no bits.
var (
	litEntry  = makeLitEntries()
	distEntry = makeDistEntries()
)

func makeLitEntries() (e [numLit]uint32) {
	for i := range 256 {
		e[i] = isLiteral | uint32(i)<<16
	}
	e[256] = isExceptional | isEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(0, i/4-1))
		e[257+i] = base<<16 | extra
		base += 1 << extra
	}
	e[285] = 258 << 16
	e[286], e[287] = isExceptional, isExceptional
	return e
}

func makeDistEntries() (e [numDist]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(max(0, i/2-1))
		e[i] = base<<16 | extra
		base += 1 << extra
	}
	e[30], e[31] = isExceptional, isExceptional
	return e
}

// fixed are the tables of fixed Huffman blocks.
var fixed = sync.OnceValue(func() *tables {
	var lens [numLit + numDist]uint8
	for i := range numLit {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	for i := range numDist {
		lens[numLit+i] = 5
	}
	t := new(tables)
	if !buildTable(t.lit[:], litBits, lens[:numLit], litEntry[:]) ||
		!buildTable(t.dist[:], distBits, lens[numLit:], distEntry[:]) {
		panic("inflate: the fixed codes are not codes")
	}
	return t
})

// buildTable makes the decoding table of the canonical code with the given
// lengths. It reports whether they are a code: complete, or one code of one
// bit, or none at all.
func buildTable(table []uint32, primary int, lens []uint8, entries []uint32) bool {
	var count [maxBits + 1]uint16
	for _, n := range lens {
		count[n&maxBits]++
	}
	left, longest := 1, 0
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - int(count[n])
		if left < 0 {
			return false
		}
		if count[n] > 0 {
			longest = n
		}
	}
	if left > 0 {
		return buildSparse(table[:1<<primary], lens, entries, longest)
	}

	// Symbols in the order of their codes.
	var offs [maxBits + 2]uint16
	for n := 1; n <= maxBits; n++ {
		offs[n+1] = offs[n] + count[n]
	}
	var sorted symbols
	for sym, n := range lens {
		if n != 0 {
			sorted[offs[n&maxBits]%uint16(len(sorted))] = uint16(sym)
			offs[n&maxBits]++
		}
	}
	fillTable(table, primary, longest, &count, &sorted, entries)
	return true
}

// buildSparse makes the table of an incomplete code, of which deflate knows two:
// no code at all, and a single one of one bit.
func buildSparse(table []uint32, lens []uint8, entries []uint32, longest int) bool {
	if longest > 1 {
		return false
	}
	for i := range table {
		table[i] = isExceptional | 1<<8 | 1
	}
	for sym, n := range lens {
		if n == 1 {
			for i := 0; i < len(table); i += 2 {
				table[i] = entries[sym] + 1<<8 + 1
			}
		}
	}
	return true
}

// fillTable enters the codes, shortest first. Codes are read from their first
// bit on, so they index the table reversed. The part of the table that is
// filled so far doubles whenever the length grows.
func fillTable(table []uint32, primary, longest int, count *[maxBits + 1]uint16, sorted *symbols, entries []uint32) {
	code, next := 0, 0
	n := 1
	for ; n <= min(primary, longest); n++ {
		if half := 1 << (n - 1); n > 1 {
			copy(table[half:2*half], table[:half])
		}
		bitsOf := uint32(n)<<8 + uint32(n)
		for range count[n] {
			table[code] = entries[sorted[next%len(sorted)]] + bitsOf
			next++
			code = nextCode(code, n)
		}
	}
	for ; n <= primary; n++ {
		half := 1 << (n - 1)
		copy(table[half:2*half], table[:half])
	}

	end := 1 << primary // of the table so far
	prefix, start, size := -1, 0, 0
	for ; n <= longest; n++ {
		bitsOf := uint32(n)<<8 + uint32(n)
		for left := int(count[n]); left > 0; left-- {
			if p := code & (1<<primary - 1); p != prefix {
				prefix, start = p, end
				size = subtableBits(count, n, left, primary)
				end += 1 << size
				table[p] = isExceptional | isPointer | uint32(start)<<16 | uint32(size)<<8 | uint32(primary)
			}
			e := entries[sorted[next%len(sorted)]] + bitsOf
			for i := code >> primary; i < 1<<size; i += 1 << (n - primary) {
				table[start+i] = e
			}
			next++
			code = nextCode(code, n)
		}
	}
}

// nextCode is the code of n bits after code, both reversed. After the last one
// it is the code itself with a zero appended by the next length.
func nextCode(code, n int) int {
	rest := code ^ (1<<n - 1)
	if rest == 0 {
		return code
	}
	top := bits.Len(uint(rest)) - 1
	return code&(1<<top-1) | 1<<top
}

// subtableBits is the number of index bits of a subtable whose first code has n
// bits, of which length there are left to enter.
func subtableBits(count *[maxBits + 1]uint16, n, left, primary int) int {
	size := n - primary
	room := 1<<size - left
	for room > 0 && primary+size < maxBits {
		size++
		room = room<<1 - int(count[primary+size])
	}
	return size
}
