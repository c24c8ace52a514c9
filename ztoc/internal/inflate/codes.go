package inflate

// outcome is why decodeSymbols has stopped.
type outcome int

const (
	bufferUsed outcome = iota
	blockDone
	noSymbol   // a code without a meaning
	noDistance // the same for a distance
	tooFar     // a distance that reaches before the beginning
)

// codes decodes symbols until the block ends, which it reports, or a buffer is
// used up.
func (d *Decoder) codes() (done bool, err error) {
	if done, err = d.symbols(d.End-srcTurn, d.Limit); done || err != nil || !d.Last {
		return done, err
	}
	// Near the end of all input, turn by turn: what a turn decodes of the zeros
	// behind it is taken back.
	for d.Pos <= d.End && d.W < d.Limit {
		w := d.W
		done, err = d.symbols(d.End+srcTurn/2, w+1)
		if cut := d.overrun(); cut != nil {
			d.W = w
			return false, cut
		}
		if done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// symbols decodes symbols in turns that begin at or before Src[srcEnd] and
// before Dst[limit].
func (d *Decoder) symbols(srcEnd, limit int) (done bool, err error) {
	if d.Pos > srcEnd || d.W >= limit {
		return false, nil
	}
	bb := uint64(d.Src[d.Pos]) >> (d.Bit & 7)
	nb := 8 - uint64(d.Bit)
	src, dst, nb, how := decodeSymbols(d.tab, at(d.Src, d.Pos+1), at(d.Src, srcEnd),
		at(d.Dst, d.W), at(d.Dst, limit), at(d.Dst, d.Low), bb, nb)
	p := (between(at(d.Src, 0), src))*8 - int(nb)
	d.Pos, d.Bit = p>>3, p&7
	d.W = between(at(d.Dst, 0), dst)
	switch how {
	case noSymbol:
		err = d.fault("code without a meaning")
	case noDistance:
		err = d.fault("distance code without a meaning")
	case tooFar:
		err = d.fault("distance reaches before the beginning")
	}
	return how == blockDone, err
}

// decodeSymbols is the hot loop. It is a function of its own, without the
// Decoder, to leave the registers to what the loop needs.
//
// The bit buffer bb has 56 to 63 valid bits after each refill; above them are
// copies of the bits that the next refill ORs in again. Only the low six bits
// of nb count: entries are subtracted from it whole.
//
// The next entry is looked up before a refill, which then has nothing to wait for.
//
// Limits: a turn begins at or before srcEnd and refills twice at most, so
// no load goes behind Src[End+SrcSlack]. It begins before Dst[Limit] and writes
// two literals and a match of 258 bytes, which may be overshot by 32, so no
// store goes behind Dst[Limit+DstSlack].
//
// The race detector would make it twenty times slower. What it would see here,
// it sees in the copying of stored blocks and windows.
//
//go:norace
func decodeSymbols(t *tables, src, srcEnd, dst, limit, low place, bb, nb uint64) (place, place, uint64, outcome) { //nolint:funlen // calls would put its state into memory
	bb |= load64(src) << (nb & 63)
	src = forth(src, 7-int(nb>>3&7))
	nb |= 56
	e := t.lit[bb&(1<<litBits-1)]
	for !before(srcEnd, src) && before(dst, limit) {
		if int32(e) < 0 {
			bb >>= e & 63
			nb -= uint64(e)
			store8(dst, byte(e>>16))
			dst = forth(dst, 1)
			e = t.lit[bb&(1<<litBits-1)]
			if int32(e) < 0 {
				bb >>= e & 63
				nb -= uint64(e)
				store8(dst, byte(e>>16))
				dst = forth(dst, 1)
				e = t.lit[bb&(1<<litBits-1)]
				if int32(e) < 0 {
					bb >>= e & 63
					nb -= uint64(e)
					store8(dst, byte(e>>16))
					dst = forth(dst, 1)
					e = t.lit[bb&(1<<litBits-1)]
					bb |= load64(src) << (nb & 63)
					src = forth(src, 7-int(nb>>3&7))
					nb |= 56
					continue
				}
			}
		}
		if e&isExceptional != 0 {
			if e&isPointer != 0 {
				e = t.lit[(e>>16+uint32(bb>>litBits)&(1<<(e>>8&15)-1))%litSize]
			}
			if int32(e) < 0 {
				bb >>= e & 63
				nb -= uint64(e)
				store8(dst, byte(e>>16))
				dst = forth(dst, 1)
				e = t.lit[bb&(1<<litBits-1)]
				bb |= load64(src) << (nb & 63)
				src = forth(src, 7-int(nb>>3&7))
				nb |= 56
				continue
			}
			if e&isEnd != 0 {
				return src, dst, (nb - uint64(e)) & 63, blockDone
			}
			if e&isExceptional != 0 {
				return src, dst, nb & 63, noSymbol
			}
		}
		// At least 34 bits are there; a length takes 20.
		n := int(e>>16) + int((bb&(1<<(e&63)-1))>>(e>>8&15))
		bb >>= e & 63
		nb -= uint64(e)

		e = t.dist[bb&(1<<distBits-1)]
		bb |= load64(src) << (nb & 63)
		src = forth(src, 7-int(nb>>3&7))
		nb |= 56
		if e&isExceptional != 0 {
			if e&isPointer != 0 {
				e = t.dist[(e>>16+uint32(bb>>distBits)&(1<<(e>>8&15)-1))%distSize]
			}
			if e&isExceptional != 0 {
				return src, dst, nb & 63, noDistance
			}
		}
		off := int(e>>16) + int((bb&(1<<(e&63)-1))>>(e>>8&15))
		bb >>= e & 63
		nb -= uint64(e)
		if off > between(low, dst) {
			return src, dst, nb & 63, tooFar
		}
		e = t.lit[bb&(1<<litBits-1)]
		bb |= load64(src) << (nb & 63)
		src = forth(src, 7-int(nb>>3&7))
		nb |= 56
		if off < 16 {
			dst = copyNear(dst, off, n)
			continue
		}
		from := forth(dst, -off)
		end := forth(dst, n)
		copy16(dst, from)
		copy16(forth(dst, 16), forth(from, 16))
		for n > 32 {
			dst, from = forth(dst, 16), forth(from, 16)
			copy16(forth(dst, 16), forth(from, 16))
			n -= 16
		}
		dst = end
	}
	return src, dst, nb & 63, bufferUsed
}

// copyNear copies n bytes from off bytes before dst, where off is less than 16,
// and perhaps up to 7 bytes more. It gives the end of the n.
//
//go:norace
func copyNear(dst place, off, n int) place {
	from := forth(dst, -off)
	end := forth(dst, n)
	switch {
	case off >= 8:
		for ; n > 0; n -= 8 {
			store64(dst, load64(from))
			dst, from = forth(dst, 8), forth(from, 8)
		}
	case off == 1:
		v := uint64(load8(from)) * 0x0101010101010101
		for ; n > 0; n -= 8 {
			store64(dst, v)
			dst = forth(dst, 8)
		}
	default:
		for ; n > 0; n-- {
			store8(dst, load8(from))
			dst, from = forth(dst, 1), forth(from, 1)
		}
	}
	return end
}
