package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	kflate "github.com/klauspost/compress/flate"
)

// decode decodes raw deflate data, with inSize bytes of input and outSize of
// output at a time. It gives the output and how much of the input was used.
func decode(data []byte, inSize, outSize int) (out []byte, used int, err error) {
	inSize = max(inSize, maxHeader) // what a header may need at once
	d := Decoder{
		Src: make([]byte, inSize+SrcSlack),
		Dst: make([]byte, Window+outSize+DstSlack),
		W:   Window, Limit: Window + outSize, Low: Window,
	}
	d.Begin()
	from, read := Window, 0
	for {
		stop, err := d.Run()
		out = append(out, d.Dst[from:d.W]...)
		from = d.W
		if err != nil {
			return out, read - (d.End - d.Pos), err
		}
		switch stop {
		case NeedInput:
			d.End = copy(d.Src, d.Src[d.Pos:d.End])
			d.Pos = 0
			n := copy(d.Src[d.End:inSize], data[read:])
			d.End += n
			read += n
			if d.Last = read == len(data); d.Last {
				clear(d.Src[d.End : d.End+SrcSlack])
			}
		case NeedOutput:
			copy(d.Dst, d.Dst[d.W-Window:d.W])
			d.Low = max(0, d.Low-(d.W-Window))
			d.W, from = Window, Window
		case End:
			used = read - (d.End - d.Pos)
			if d.Bit > 0 {
				used++
			}
			return out, used, nil
		}
	}
}

// compare decodes data in several ways, and with compress/flate and klauspost's.
func compare(t *testing.T, data []byte) {
	t.Helper()
	out, used, err := decode(data, len(data), 1<<16)
	for _, size := range [][2]int{{0, 1}, {0, 300}, {1000, 4096}} {
		if len(out)/size[1] > 5000 {
			continue // each piece of output moves a window
		}
		out2, used2, err2 := decode(data, size[0], size[1])
		if fmt.Sprint(err) != fmt.Sprint(err2) || err == nil && (used != used2 || !bytes.Equal(out, out2)) {
			t.Fatalf("%v at a time: %d bytes, %d used, %v; at once: %d, %d, %v", size, len(out2), used2, err2, len(out), used, err)
		}
	}
	for name, open := range map[string]func(io.Reader) io.ReadCloser{"compress/flate": flate.NewReader, "klauspost": kflate.NewReader} {
		r := bytes.NewReader(data)
		want, werr := io.ReadAll(open(r))
		switch {
		case err == nil && werr != nil:
			t.Fatalf("decoded what %s does not: %v", name, werr)
		case err == nil && !bytes.Equal(out, want):
			t.Fatalf("%d bytes, %s has %d", len(out), name, len(want))
		case err == nil && used != len(data)-r.Len():
			t.Fatalf("used %d bytes of input, %s %d", used, name, len(data)-r.Len())
		case err != nil && werr == nil && !stricter(err):
			t.Fatalf("%v, but %s decodes it", err, name)
		}
	}
}

// stricter says that zlib refuses what Go's decoders let pass.
func stricter(err error) bool {
	var c CorruptError
	return errors.As(err, &c) && (strings.Contains(string(c), "code length code") || strings.Contains(string(c), "end of the block"))
}

// samples are texts of different kinds, not too long.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 70_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	small := make([]byte, 100_000)
	for i := range small {
		small[i] = "etaoin \n"[r.IntN(8)]
	}
	var words bytes.Buffer
	for words.Len() < 150_000 {
		fmt.Fprintf(&words, "%d func %x return(%d)\n", r.IntN(100), r.IntN(1000), r.IntN(10))
	}
	far := append(bytes.Clone(random[:32768]), random[:32768]...) // distance of exactly 32 KiB
	return map[string][]byte{
		"empty": nil, "byte": {'a'}, "random": random, "small alphabet": small, "words": words.Bytes(),
		"zeros": make([]byte, 100_000), "pairs": bytes.Repeat([]byte("ab"), 50_000),
		"sevens": bytes.Repeat([]byte("abcdefg"), 10_000), "far": far,
	}
}

func TestLevels(t *testing.T) {
	for name, text := range samples() {
		for level := flate.HuffmanOnly; level <= 9; level++ {
			t.Run(fmt.Sprint(name, level), func(t *testing.T) {
				var b, k bytes.Buffer
				w, err := flate.NewWriter(&b, level)
				if err != nil {
					t.Fatal(err)
				}
				kw, err := kflate.NewWriter(&k, level)
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(text); i += 40_001 {
					p := text[i:min(i+40_001, len(text))]
					w.Write(p)
					w.Flush()
					kw.Write(p)
				}
				w.Close()
				kw.Close()
				for _, data := range [][]byte{b.Bytes(), k.Bytes()} {
					compare(t, data)
					if out, _, err := decode(data, 1<<16, 1<<16); err != nil || !bytes.Equal(out, text) {
						t.Errorf("%d bytes of %d: %v", len(out), len(text), err)
					}
				}
			})
		}
	}
}

// TestCut cuts streams wherever that may matter: it is said that they are cut, and
// what is decoded of them is what they hold.
func TestCut(t *testing.T) {
	for name, text := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 1, 6} {
			var b bytes.Buffer
			w, err := flate.NewWriter(&b, level)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(text)
			w.Close()
			data := b.Bytes()
			for n := range data {
				if n > 300 && n < len(data)-100 {
					continue
				}
				out, _, err := decode(data[:n], len(data), len(text)+1)
				if !errors.Is(err, ErrTruncated) || !bytes.HasPrefix(text, out) {
					t.Fatalf("%s, level %d, cut at %d of %d: %d bytes, %v", name, level, n, len(data), len(out), err)
				}
			}
		}
	}
}

// TestDamaged flips bits and cuts.
func TestDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	text := samples()["words"][:60_000]
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	w.Write(text)
	w.Close()
	good := b.Bytes()
	for range 150 {
		bad := bytes.Clone(good)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		compare(t, bad)
		compare(t, good[:r.IntN(len(good))])
	}
	if _, _, err := decode(good[:len(good)-1], 0, 1<<16); !errors.Is(err, ErrTruncated) {
		t.Errorf("cut: %v", err)
	}
}

// bitWriter writes deflate by hand.
type bitWriter struct {
	p []byte
	n int
}

func (b *bitWriter) bits(v, n int) *bitWriter {
	for i := range n {
		if b.n&7 == 0 {
			b.p = append(b.p, 0)
		}
		b.p[b.n>>3] |= byte(v>>i&1) << (b.n & 7)
		b.n++
	}
	return b
}

// code writes a Huffman code, first bit first.
func (b *bitWriter) code(v, n int) *bitWriter {
	for i := n - 1; i >= 0; i-- {
		b.bits(v>>i, 1)
	}
	return b
}

// fixedLit writes a symbol of the fixed literal/length code.
func (b *bitWriter) fixedLit(sym int) *bitWriter {
	switch {
	case sym < 144:
		return b.code(0x30+sym, 8)
	case sym < 256:
		return b.code(0x190+sym-144, 9)
	case sym < 280:
		return b.code(sym-256, 7)
	}
	return b.code(0xc0+sym-280, 8)
}

// dynamic writes a block header with the given code lengths of literals and
// distances, in a code of 19 symbols that all have 5 bits, or 4 for the first 13.
func (b *bitWriter) dynamic(nlit, ndist int, lens map[int]int) *bitWriter {
	b.bits(1, 1).bits(2, 2).bits(nlit-257, 5).bits(ndist-1, 5).bits(15, 4)
	for _, sym := range lengthOrder {
		n := 5
		if sym < 13 {
			n = 4
		}
		b.bits(n, 3)
	}
	for i := range nlit + ndist {
		if v := lens[i]; v < 13 {
			b.code(v, 4)
		} else {
			b.code(26+v-13, 5)
		}
	}
	return b
}

// TestByHand are streams that no compressor makes.
func TestByHand(t *testing.T) {
	all := func(nlit int, v int) map[int]int { // nlit codes of v bits, one distance of 1 bit
		m := map[int]int{nlit: 1}
		for i := range nlit {
			m[i] = v
		}
		return m
	}
	fixed := func() *bitWriter { return new(bitWriter).bits(1, 1).bits(1, 2) }
	for _, tc := range []struct {
		name string
		in   *bitWriter
		out  string
		err  string
	}{
		{"fixed", fixed().fixedLit('a').fixedLit(256), "a", ""},
		{"match of one byte", fixed().fixedLit('a').fixedLit(257).code(0, 5).fixedLit(256), "aaaa", ""},
		{"length 258 by symbol 284", fixed().fixedLit('a').fixedLit(284).bits(31, 5).code(0, 5).fixedLit(256), strings.Repeat("a", 259), ""},
		{"symbol 286", fixed().fixedLit(286).fixedLit(256), "", "without a meaning"},
		{"symbol 287", fixed().fixedLit(287).fixedLit(256), "", "without a meaning"},
		{"distance symbol 30", fixed().fixedLit('a').fixedLit(257).code(30, 5).fixedLit(256), "", "without a meaning"},
		{"distance symbol 31", fixed().fixedLit('a').fixedLit(257).code(31, 5).fixedLit(256), "", "without a meaning"},
		{"match at the start", fixed().fixedLit(257).code(0, 5).fixedLit(256), "", "before the beginning"},
		{"match too far", fixed().fixedLit('a').fixedLit(257).code(1, 5).fixedLit(256), "", "before the beginning"},
		{"block type 3", new(bitWriter).bits(1, 1).bits(3, 2).bits(0, 32), "", "block type 3"},
		{"empty stored", new(bitWriter).bits(1, 1).bits(0, 7).bits(0, 16).bits(0xffff, 16), "", ""},
		{"stored without complement", new(bitWriter).bits(1, 1).bits(0, 7).bits(0x00ff0001, 32).bits('a', 8), "", "complement"},
		{"one distance code", new(bitWriter).dynamic(258, 1, map[int]int{'a': 2, 256: 2, 257: 1, 258: 1}).code(2, 2).code(0, 1).code(0, 1).code(3, 2), "aaaa", ""},
		{"the other half of one distance code", new(bitWriter).dynamic(258, 1, map[int]int{'a': 2, 256: 2, 257: 1, 258: 1}).code(2, 2).code(0, 1).code(1, 1).code(3, 2), "", "without a meaning"},
		{"one distance code of two bits", new(bitWriter).dynamic(258, 1, map[int]int{'a': 2, 256: 2, 257: 1, 258: 2}), "", "distance code"},
		{"no distance code, not used", new(bitWriter).dynamic(257, 1, map[int]int{'a': 1, 256: 1}).code(0, 1).code(1, 1), "a", ""},
		{"no distance code, used", new(bitWriter).dynamic(258, 1, map[int]int{'a': 2, 256: 2, 257: 1}).code(2, 2).code(0, 1).bits(0, 20), "", "without a meaning"},
		{"only the end", new(bitWriter).dynamic(257, 1, map[int]int{256: 1, 257: 1}).code(0, 1), "", ""},
		{"the other half of only the end", new(bitWriter).dynamic(257, 1, map[int]int{256: 1, 257: 1}).code(1, 1), "", "without a meaning"},
		{"no end of block", new(bitWriter).dynamic(257, 1, map[int]int{'a': 1, 'b': 1, 257: 1}), "", "end of the block"},
		{"over-subscribed", new(bitWriter).dynamic(257, 1, all(257, 8)), "", "over-subscribed"},
		{"incomplete", new(bitWriter).dynamic(257, 1, map[int]int{'a': 2, 256: 2, 257: 1}), "", "incomplete"},
		{"287 symbols", new(bitWriter).dynamic(287, 1, all(287, 9)), "", "too many"},
		{"31 distances", new(bitWriter).dynamic(257, 31, all(257, 9)), "", "too many"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, _, err := decode(tc.in.p, 0, 1<<10)
			if tc.err == "" && (err != nil || string(out) != tc.out) || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %q, %v; want %q, %q", out, err, tc.out, tc.err)
			}
			compare(t, tc.in.p)
		})
	}
}

// TestMatches copies every length from every short distance, at every place
// relative to the end of the output buffer.
func TestMatches(t *testing.T) {
	for dist := 1; dist <= 40; dist++ {
		w := new(bitWriter).bits(1, 1).bits(1, 2)
		for i := range dist {
			w.fixedLit('a' + i)
		}
		for n := 3; n <= 258; n++ {
			sym, extra, nbits := lengthSymbol(n)
			w.fixedLit(sym).bits(extra, nbits)
			dsym, dextra, dbits := distSymbol(dist)
			w.code(dsym, 5).bits(dextra, dbits)
		}
		w.fixedLit(256)
		compare(t, w.p)
		for size := 1; size < 700; size += 37 {
			want, _, _ := decode(w.p, 0, 1<<20)
			if got, _, err := decode(w.p, 0, size); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("distance %d, output of %d bytes: %v", dist, size, err)
			}
		}
	}
}

func lengthSymbol(n int) (sym, extra, nbits int) {
	for sym = 285; ; sym-- {
		if base := int(litEntry[sym] >> 16); base <= n {
			return sym, n - base, int(litEntry[sym] & 31)
		}
	}
}

func distSymbol(n int) (sym, extra, nbits int) {
	for sym = 29; ; sym-- {
		if base := int(distEntry[sym] >> 16); base <= n {
			return sym, n - base, int(distEntry[sym] & 31)
		}
	}
}

func FuzzInflate(f *testing.F) {
	for name, text := range samples() {
		if name == "random" || name == "far" {
			continue
		}
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, level)
			w.Write(text[:min(len(text), 3000)])
			w.Flush()
			w.Write(text[:min(len(text), 100)])
			w.Close()
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		compare(t, data)
	})
}
