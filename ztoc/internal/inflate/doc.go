// Package inflate decodes raw deflate data (RFC 1951) and tells where its
// blocks begin, to the bit, which compress/flate keeps to itself.
//
// A Decoder works on two linear buffers that its caller owns: it reads from
// Src, writes to Dst, and stops between two symbols when either is used up, so
// that it never has half a symbol to remember. Dst holds the last 32 KiB of
// output before the place it writes to: a match is one copy, with no ring to
// wrap around.
//
// It accepts and refuses exactly what zlib's inflate accepts and refuses.
package inflate
