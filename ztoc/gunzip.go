package ztoc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sociable/sociable/ztoc/internal/inflate"
)

// event is where gunzip.next has come to.
type event int

const (
	needInput   event = iota // what is left of the input cannot be used without more
	needOutput               // the output buffer is full
	memberBegun              // after a member's header; see gunzip.member
	blockEnded               // after a block that is not its member's last
	memberEnded              // after a member's trailer; see gunzip.member
	inputEnded               // no member follows, and no more input
)

// member is what gunzip knows of the current member.
type member struct {
	off     int64  // where it begins in the file
	trailer int64  // and its trailer
	zlib    bool   // a zlib stream, which zlib takes for a member
	refused bool   // a member that compress/gzip does not take
	check   uint32 // from the trailer: CRC-32, or Adler-32 of a zlib stream
	size    uint32 // from the trailer of a gzip member
}

// step is what comes next in a gzip file.
type step int

const (
	stepMagic step = iota
	stepFixed      // the rest of the ten bytes
	stepExtraLen
	stepExtra
	stepName
	stepComment
	stepHeaderCRC
	stepBlocks
	stepTrailer
	stepBetween
)

// Flags of a gzip header, RFC 1952 section 2.3.1.
const (
	flagHCRC     = 1 << 1
	flagExtra    = 1 << 2
	flagName     = 1 << 3
	flagComment  = 1 << 4
	flagReserved = 0xe0
)

// maxHeaderText is the longest name or comment that compress/gzip takes.
const maxHeaderText = 511

// gunzip takes a gzip file of any number of members apart, as zlib does with
// automatic detection: what looks like a zlib stream is one. It checks all but
// the checksums, which whoever reads the output does.
type gunzip struct {
	inflate.Decoder
	base   int64 // offset of Src[0] in the file
	member member

	step  step
	flags byte
	left  int    // bytes of the current field
	text  int    // length of the name or comment so far
	crc   uint32 // of the header so far
}

// pos is the offset in the file of the first byte that is not used up.
func (g *gunzip) pos() int64 { return g.base + int64(g.Pos) }

// fault says that the stream is damaged where the decoder stands, or ends where
// the input does.
func (g *gunzip) fault(cause error) error {
	at := min(g.Pos, g.End)
	if errors.Is(cause, ErrTruncated) {
		at = g.End
	}
	return refuse(ClassDeflate, g.base+int64(at), cause)
}

// next goes on to the next event. An error is an *Error of class deflate.
func (g *gunzip) next() (event, error) {
	for {
		switch g.step {
		case stepBlocks:
			stop, err := g.Run()
			if err != nil {
				if errors.Is(err, inflate.ErrTruncated) {
					err = ErrTruncated
				}
				return 0, g.fault(err)
			}
			switch stop {
			case inflate.NeedInput:
				return needInput, nil
			case inflate.NeedOutput:
				return needOutput, nil
			case inflate.Block:
				return blockEnded, nil
			}
			if g.Bit > 0 {
				g.Pos, g.Bit = g.Pos+1, 0
			}
			g.step = stepTrailer
		case stepTrailer:
			if !g.trailer() {
				return g.starved()
			}
			g.step = stepBetween
			return memberEnded, nil
		case stepBetween:
			if g.Pos == g.End {
				if g.Last {
					return inputEnded, nil
				}
				return needInput, nil
			}
			g.step = stepMagic
		default:
			ok, err := g.header()
			if err != nil {
				return 0, g.fault(err)
			}
			if !ok {
				return g.starved()
			}
			if g.step == stepBlocks {
				g.Begin()
				return memberBegun, nil
			}
		}
	}
}

// starved asks for more input, or says that there is none.
func (g *gunzip) starved() (event, error) {
	if g.Last {
		if g.step == stepMagic && g.pos() > 0 && g.Src[g.Pos] != 0x1f { // a single byte, of no member
			return 0, g.fault(ErrTrailing)
		}
		return 0, g.fault(ErrTruncated)
	}
	return needInput, nil
}

// take gives the next n bytes of the input if they are there.
func (g *gunzip) take(n int) []byte {
	if g.End-g.Pos < n {
		return nil
	}
	p := g.Src[g.Pos : g.Pos+n]
	g.Pos += n
	return p
}

// trailer reads a member's trailer if it is there.
func (g *gunzip) trailer() bool {
	g.member.trailer = g.pos()
	if g.member.zlib {
		p := g.take(4)
		if p != nil {
			g.member.check = binary.BigEndian.Uint32(p)
		}
		return p != nil
	}
	p := g.take(8)
	if p != nil {
		g.member.check = binary.LittleEndian.Uint32(p)
		g.member.size = binary.LittleEndian.Uint32(p[4:])
	}
	return p != nil
}

// header reads one field of a member's header, or says that it isn't all there.
func (g *gunzip) header() (bool, error) {
	switch g.step {
	case stepMagic:
		return g.magic()
	case stepFixed:
		p := g.take(8)
		if p == nil {
			return false, nil
		}
		if p[0] != 8 {
			return false, fmt.Errorf("gzip header: compression method %d", p[0])
		}
		if p[1]&flagReserved != 0 {
			return false, fmt.Errorf("gzip header: reserved flags %#x", p[1])
		}
		g.flags = p[1]
		g.sum(p)
		g.after(stepFixed)
	case stepExtraLen:
		p := g.take(2)
		if p == nil {
			return false, nil
		}
		g.sum(p)
		g.left = int(binary.LittleEndian.Uint16(p))
		g.step = stepExtra
	case stepExtra:
		p := g.take(min(g.left, g.End-g.Pos))
		g.sum(p)
		if g.left -= len(p); g.left > 0 {
			return false, nil
		}
		g.after(stepExtra)
	case stepName, stepComment:
		return g.headerText(), nil
	case stepHeaderCRC:
		p := g.take(2)
		if p == nil {
			return false, nil
		}
		if binary.LittleEndian.Uint16(p) != uint16(g.crc) {
			return false, fmt.Errorf("gzip header: %w", ErrChecksum)
		}
		g.step = stepBlocks
	}
	return true, nil
}

// magic tells what the member is by its first two bytes.
func (g *gunzip) magic() (bool, error) {
	off := g.pos()
	p := g.take(2)
	if p == nil {
		return false, nil
	}
	g.member = member{off: off}
	if p[0] == 0x1f && p[1] == 0x8b {
		g.crc = 0
		g.sum(p)
		g.step = stepFixed
		return true, nil
	}
	isZlib := p[0]&15 == 8 && p[0]>>4 <= 7 && p[1]&0x20 == 0
	if isZlib && (int(p[0])<<8+int(p[1]))%31 == 0 {
		g.member.zlib, g.member.refused = true, true
		g.step = stepBlocks
		return true, nil
	}
	g.Pos -= 2
	if off > 0 {
		return false, ErrTrailing
	}
	return false, ErrNotGzip
}

// headerText reads on in a zero-terminated field.
func (g *gunzip) headerText() bool {
	for i, c := range g.Src[g.Pos:g.End] {
		if c != 0 {
			continue
		}
		g.sum(g.Src[g.Pos : g.Pos+i+1])
		g.Pos += i + 1
		if g.text += i; g.text > maxHeaderText {
			g.member.refused = true
		}
		g.text = 0
		g.after(g.step)
		return true
	}
	g.sum(g.Src[g.Pos:g.End])
	g.text = min(g.text+g.End-g.Pos, maxHeaderText+1)
	g.Pos = g.End
	return false
}

func (g *gunzip) sum(p []byte) { g.crc = crc32.Update(g.crc, crc32.IEEETable, p) }

// after goes to the field that follows s.
func (g *gunzip) after(s step) {
	switch {
	case s < stepExtraLen && g.flags&flagExtra != 0:
		g.step = stepExtraLen
	case s < stepName && g.flags&flagName != 0:
		g.step = stepName
	case s < stepComment && g.flags&flagComment != 0:
		g.step = stepComment
	case s < stepHeaderCRC && g.flags&flagHCRC != 0:
		g.step = stepHeaderCRC
	default:
		g.step = stepBlocks
	}
}
