//go:build purego || !(386 || amd64 || arm64 || loong64 || ppc64le || riscv64)

package inflate

import "encoding/binary"

func load8(p []byte, i int) byte { return p[i] }

func load64(p []byte, i int) uint64 { return binary.LittleEndian.Uint64(p[i:]) }

func store8(p []byte, i int, v byte) { p[i] = v }

func store64(p []byte, i int, v uint64) { binary.LittleEndian.PutUint64(p[i:], v) }

func copy16(p []byte, to, from int) {
	v := *(*[16]byte)(p[from:])
	*(*[16]byte)(p[to:]) = v
}
