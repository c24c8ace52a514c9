//go:build !purego && (386 || amd64 || arm64 || loong64 || ppc64le || riscv64)

package inflate

import "unsafe"

// place is a place in a buffer. These are the accesses that the hot loop makes;
// it keeps them inside the buffers, see decodeSymbols. The purego build has the
// same with every index checked, and the tests run on both.
type place = unsafe.Pointer

func at(p []byte, i int) place { return unsafe.Add(unsafe.Pointer(unsafe.SliceData(p)), i) }

func forth(p place, n int) place { return unsafe.Add(p, n) }

func between(from, to place) int { return int(uintptr(to) - uintptr(from)) }

func before(p, q place) bool { return uintptr(p) < uintptr(q) }

func load8(p place) byte { return *(*byte)(p) }

func load64(p place) uint64 { return *(*uint64)(p) }

func store8(p place, v byte) { *(*byte)(p) = v }

func store64(p place, v uint64) { *(*uint64)(p) = v }

func copy16(to, from place) { *(*[16]byte)(to) = *(*[16]byte)(from) }
