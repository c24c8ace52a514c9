//go:build purego || !(386 || amd64 || arm64 || loong64 || ppc64le || riscv64)

package inflate

import "encoding/binary"

type place struct {
	buf []byte
	i   int
}

func at(p []byte, i int) place { return place{p, i} }

func forth(p place, n int) place { return place{p.buf, p.i + n} }

func between(from, to place) int { return to.i - from.i }

func before(p, q place) bool { return p.i < q.i }

func load8(p place) byte { return p.buf[p.i] }

func load64(p place) uint64 { return binary.LittleEndian.Uint64(p.buf[p.i:]) }

func store8(p place, v byte) { p.buf[p.i] = v }

func store64(p place, v uint64) { binary.LittleEndian.PutUint64(p.buf[p.i:], v) }

func copy16(to, from place) {
	v := *(*[16]byte)(from.buf[from.i:])
	*(*[16]byte)(to.buf[to.i:]) = v
}
