package inflate

// codes decodes symbols until the block ends, which it reports, or a buffer is
// used up.
//
// The bit buffer bb has 56 to 63 valid bits after each refill; above them are
// copies of the bits that the next refill ORs in again. Only the low six bits
// of nb count: entries are subtracted from it whole.
//
// Limits: a turn begins at or before srcEnd and refills three times at most, so
// no load goes behind Src[End+SrcSlack]. It begins before Dst[Limit] and writes
// two literals and a match of 258 bytes, which may be overshot by 32, so no
// store goes behind Dst[Limit+DstSlack].
func (d *Decoder) codes() (done bool, err error) {
	t := d.tab
	src, dst := d.Src, d.Dst
	pos, w := d.Pos, d.W
	low, limit := d.Low, d.Limit
	srcEnd := d.End - srcTurn
	if d.Last {
		srcEnd = d.End + srcTurn/2
	}
	if pos > srcEnd || w >= limit {
		return false, nil
	}

	bb := uint64(load8(src, pos)) >> (d.Bit & 7)
	nb := 8 - uint64(d.Bit)
	pos++

	for pos <= srcEnd && w < limit {
		bb |= load64(src, pos) << (nb & 63)
		pos += 7 - int(nb>>3&7)
		nb |= 56

		e := t.lit[bb&(1<<litBits-1)]
		if int32(e) < 0 {
			bb >>= e & 63
			nb -= uint64(e)
			store8(dst, w, byte(e>>16))
			w++
			e = t.lit[bb&(1<<litBits-1)]
			if int32(e) < 0 {
				bb >>= e & 63
				nb -= uint64(e)
				store8(dst, w, byte(e>>16))
				w++
				e = t.lit[bb&(1<<litBits-1)]
				if int32(e) < 0 {
					bb >>= e & 63
					nb -= uint64(e)
					store8(dst, w, byte(e>>16))
					w++
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
				store8(dst, w, byte(e>>16))
				w++
				continue
			}
			if e&isEnd != 0 {
				bb >>= e & 63
				nb -= uint64(e)
				done = true
				break
			}
			if e&isExceptional != 0 {
				err = CorruptError("code without a meaning")
				break
			}
		}
		// At least 34 bits are there; a length takes 20.
		n := int(e>>16) + int((bb&(1<<(e&63)-1))>>(e>>8&15))
		bb >>= e & 63
		nb -= uint64(e)

		bb |= load64(src, pos) << (nb & 63)
		pos += 7 - int(nb>>3&7)
		nb |= 56
		e = t.dist[bb&(1<<distBits-1)]
		if e&isExceptional != 0 {
			if e&isPointer != 0 {
				e = t.dist[(e>>16+uint32(bb>>distBits)&(1<<(e>>8&15)-1))%distSize]
			}
			if e&isExceptional != 0 {
				err = CorruptError("distance code without a meaning")
				break
			}
		}
		off := int(e>>16) + int((bb&(1<<(e&63)-1))>>(e>>8&15))
		bb >>= e & 63
		nb -= uint64(e)

		s := w - off
		if s < low {
			err = CorruptError("distance reaches before the beginning")
			break
		}
		end := w + n
		switch {
		case off >= 16:
			copy16(dst, w, s)
			copy16(dst, w+16, s+16)
			for w += 32; w < end; w += 16 {
				s += 16
				copy16(dst, w, s+16)
			}
		case off >= 8:
			for ; w < end; w += 8 {
				store64(dst, w, load64(dst, s))
				s += 8
			}
		case off == 1:
			v := uint64(load8(dst, s)) * 0x0101010101010101
			for ; w < end; w += 8 {
				store64(dst, w, v)
			}
		default:
			for ; w < end; w++ {
				store8(dst, w, load8(dst, s))
				s++
			}
		}
		w = end
	}

	p := pos*8 - int(nb&63)
	d.Pos, d.Bit = p>>3, p&7
	d.W = w
	if err != nil && d.overrun() != nil {
		err = ErrTruncated
	}
	return done, err
}
