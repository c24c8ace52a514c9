package inflate

import "errors"

const (
	// Window is how far back a match may reach.
	Window = 32 << 10
	// SrcSlack is how many bytes of Src after End may be read. At the end of
	// the input they must be zero.
	SrcSlack = 64
	// DstSlack is how many bytes of Dst after Limit may be written.
	DstSlack = 320

	// One turn of the loop takes at most three refills of 7 bytes, and a refill
	// looks at 8.
	srcTurn = 32
	// A dynamic block's header is at most 17 bits, 19 code lengths of 3 bits
	// and 316 lengths of 14 bits. Headers are read only where so much is there.
	maxHeader = 600
)

// ErrTruncated says that the input ends before the deflate data does.
var ErrTruncated = errors.New("data ends early")

// A CorruptError says what is wrong with the deflate data.
type CorruptError string

func (e CorruptError) Error() string { return "invalid deflate data: " + string(e) }

// A Stop is where Run has come to.
type Stop int

// Run stops with one of these.
const (
	NeedInput  Stop = iota // all of Src that can be used is used
	NeedOutput             // Dst is full
	Block                  // after a block that is not the last one
	End                    // after the last block
)

// phase is what comes next in the stream.
type phase int

const (
	header phase = iota
	stored
	symbolsLeft
	ended
)

// Decoder decodes one deflate stream after another. Its exported fields belong
// to the caller, who moves and replaces the buffers between two calls of Run.
type Decoder struct {
	Src  []byte // input, SrcSlack bytes longer than End at least
	Pos  int    // the next bit is in Src[Pos]
	Bit  int    // 0..7: how many low bits of Src[Pos] are used
	End  int    // end of what is there
	Last bool   // nothing will follow Src[:End]

	Dst   []byte // output, DstSlack bytes longer than Limit at least
	W     int    // next byte to write, at least Window
	Limit int    // Run stops when W has reached it
	Low   int    // no match may reach before Dst[Low]

	phase phase
	final bool // the current block is the last one
	left  int  // bytes left of a stored block
	tab   *tables
	dyn   tables
}

// Begin makes the next bits the beginning of a block, as they are after a
// header and at a checkpoint.
func (d *Decoder) Begin() {
	d.phase, d.final, d.left = header, false, 0
}

// Run decodes until the end of a block or of a buffer. After NeedInput the
// bytes from Pos to End, at most 600 then, must be there again with more behind
// them. Errors are a CorruptError, or ErrTruncated.
func (d *Decoder) Run() (Stop, error) {
	for {
		var err error
		switch d.phase {
		case header:
			if !d.Last && d.End-d.Pos < maxHeader {
				return NeedInput, nil
			}
			err = d.readHeader()
		case stored:
			if d.left > 0 {
				if stop := d.copyStored(); stop != Block {
					return stop, d.overrun()
				}
			}
			return d.endBlock()
		case symbolsLeft:
			var done bool
			if done, err = d.codes(); err == nil {
				if done {
					return d.endBlock()
				}
				if err = d.overrun(); err == nil {
					if d.W >= d.Limit {
						return NeedOutput, nil
					}
					return NeedInput, nil
				}
			}
		case ended:
			return End, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// endBlock goes on to the next block, or ends the stream.
func (d *Decoder) endBlock() (Stop, error) {
	if err := d.overrun(); err != nil {
		return 0, err
	}
	if d.final {
		d.phase = ended
		return End, nil
	}
	d.phase = header
	return Block, nil
}

// overrun reports that zero bytes behind the end of the input were taken for
// data.
func (d *Decoder) overrun() error {
	if d.Pos > d.End || d.Pos == d.End && d.Bit > 0 {
		return ErrTruncated
	}
	return nil
}

// readHeader reads a block's header and its codes.
func (d *Decoder) readHeader() error {
	v := load64(at(d.Src, d.Pos)) >> (d.Bit & 7)
	d.final = v&1 != 0
	switch v >> 1 & 3 {
	case 0:
		return d.storedHeader(d.Bit + 3)
	case 1:
		d.skip(3)
		d.tab = fixed()
	case 2:
		if err := d.dynamicHeader(); err != nil {
			return err
		}
		d.tab = &d.dyn
	default:
		return d.fault("block type 3")
	}
	d.phase = symbolsLeft
	return d.overrun()
}

// fault is a CorruptError, unless what is wrong is that the input has ended.
func (d *Decoder) fault(what CorruptError) error {
	if err := d.overrun(); err != nil {
		return err
	}
	return what
}

func (d *Decoder) skip(n int) {
	n += d.Bit
	d.Pos += n >> 3
	d.Bit = n & 7
}

// storedHeader reads the two lengths; used is how many bits from Src[Pos] on
// are.
func (d *Decoder) storedHeader(used int) error {
	d.Pos += (used + 7) >> 3
	d.Bit = 0
	v := uint32(load64(at(d.Src, d.Pos)))
	d.Pos += 4
	if err := d.overrun(); err != nil {
		return err
	}
	n := uint16(v)
	if n != ^uint16(v>>16) {
		return CorruptError("stored block length and its complement differ")
	}
	d.left = int(n)
	d.phase = stored
	return nil
}

// copyStored copies what it can of a stored block. Block says all of it.
func (d *Decoder) copyStored() Stop {
	n := min(d.left, d.End-d.Pos, d.Limit-d.W)
	if n > 0 {
		copy(d.Dst[d.W:d.W+n], d.Src[d.Pos:d.Pos+n])
		d.W += n
		d.Pos += n
		d.left -= n
	}
	switch {
	case d.left == 0:
		return Block
	case d.W >= d.Limit:
		return NeedOutput
	case d.Last:
		d.Pos = d.End + 1 // what is missing has been asked for
	}
	return NeedInput
}

// lengthOrder is the order of the code lengths of the code lengths' code.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicHeader reads the codes of a dynamic block.
func (d *Decoder) dynamicHeader() error {
	v := load64(at(d.Src, d.Pos)) >> (d.Bit & 7)
	nlit := int(v>>3&31) + 257
	ndist := int(v>>8&31) + 1
	nlen := int(v>>13&15) + 4
	if nlit > 286 || ndist > 30 {
		return d.fault("too many length or distance symbols")
	}
	d.skip(17)
	v = load64(at(d.Src, d.Pos)) >> (d.Bit & 7) // 57 bits or more
	var lens [19]uint8
	for _, sym := range lengthOrder[:nlen] {
		lens[sym] = uint8(v & 7)
		v >>= 3
	}
	d.skip(3 * nlen)

	var table [1 << 7]uint8 // length of the code << 5 | symbol
	if !buildLengthTable(&table, &lens) {
		return d.fault("code length code is over-subscribed or incomplete")
	}
	var all [numLit + numDist]uint8
	if err := d.readLengths(all[:nlit+ndist], &table); err != nil {
		return err
	}
	if all[256] == 0 {
		return d.fault("no code for the end of the block")
	}
	if !buildTable(d.dyn.lit[:], litBits, all[:nlit], litEntry[:]) {
		return d.fault("literal/length code is over-subscribed or incomplete")
	}
	if !buildTable(d.dyn.dist[:], distBits, all[nlit:nlit+ndist], distEntry[:]) {
		return d.fault("distance code is over-subscribed or incomplete")
	}
	return nil
}

// buildLengthTable makes the table of the code that code lengths are written
// in. It must be complete.
func buildLengthTable(table *[1 << 7]uint8, lens *[19]uint8) bool {
	var count [8]int
	for _, n := range lens {
		count[n&7]++
	}
	var next [8]int
	code := 0
	for n := 1; n < 8; n++ {
		next[n] = code
		code = (code + count[n]) << 1
	}
	if code != 1<<8 {
		return false
	}
	for sym, n := range lens {
		if n == 0 {
			continue
		}
		c := next[n&7]
		next[n&7]++
		for i := reverse7(c) >> (7 - n); i < len(table); i += 1 << n {
			table[i] = n<<5 | uint8(sym)
		}
	}
	return true
}

// reverse7 reverses the low seven bits of v.
func reverse7(v int) int {
	r := 0
	for range 7 {
		r = r<<1 | v&1
		v >>= 1
	}
	return r
}

// readLengths reads the code lengths of both codes, which are one run.
func (d *Decoder) readLengths(lens []uint8, table *[1 << 7]uint8) error {
	src, pos := d.Src, d.Pos
	bb := load64(at(src, pos)) >> (d.Bit & 7)
	nb := 64 - uint(d.Bit)
	pos += 8
	limit := len(src) - 8
	for i := 0; i < len(lens); {
		if nb < 14 {
			// nb bits are left: take whole bytes behind them.
			if pos > limit {
				d.Pos = d.End + 1
				return ErrTruncated
			}
			bb |= load64(at(src, pos)) << (nb & 63)
			pos += int(63-nb) >> 3
			nb |= 56
		}
		e := table[bb&127]
		n := uint(e >> 5)
		sym := e & 31
		bb >>= n & 63
		nb -= n
		if sym < 16 {
			lens[i] = sym
			i++
			continue
		}
		var v uint8
		var times, extra uint
		switch sym {
		case 16:
			if i == 0 {
				d.goTo(pos, nb)
				return d.fault("repeat of no code length")
			}
			v, times, extra = lens[i-1], 3+uint(bb&3), 2
		case 17:
			times, extra = 3+uint(bb&7), 3
		default:
			times, extra = 11+uint(bb&127), 7
		}
		bb >>= extra
		nb -= extra
		if i+int(times) > len(lens) {
			d.goTo(pos, nb)
			return d.fault("code lengths run over their number")
		}
		for end := i + int(times); i < end; i++ {
			lens[i] = v
		}
	}
	d.goTo(pos, nb)
	return nil
}

// goTo goes to nb bits before Src[pos].
func (d *Decoder) goTo(pos int, nb uint) {
	at := pos*8 - int(nb)
	d.Pos, d.Bit = at>>3, at&7
}
