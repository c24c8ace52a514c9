//go:build !purego && (386 || amd64 || arm64 || loong64 || ppc64le || riscv64)

package inflate

import "unsafe"

// The five accesses that the hot loop makes. Callers keep i and the bytes after
// it inside p: see the limits in Decoder.codes. The purego build has the same
// five with every index checked, and the fuzz tests run on both.

func at(p []byte, i int) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(p)), i)
}

func load8(p []byte, i int) byte { return *(*byte)(at(p, i)) }

func load64(p []byte, i int) uint64 { return *(*uint64)(at(p, i)) }

func store8(p []byte, i int, v byte) { *(*byte)(at(p, i)) = v }

func store64(p []byte, i int, v uint64) { *(*uint64)(at(p, i)) = v }

func copy16(p []byte, to, from int) { *(*[16]byte)(at(p, to)) = *(*[16]byte)(at(p, from)) }
