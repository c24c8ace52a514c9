package ztoc

import (
	"bytes"
	"fmt"
)

// What a zTOC says of itself, and how it is listed in an index.
const (
	Version         = "0.9"
	BuildTool       = "AWS SOCI CLI v0.2"
	MediaType       = "application/octet-stream"
	DefaultSpanSize = 4 << 20 // bytes of uncompressed data
)

const (
	windowSize     = 32 << 10
	checkpointSize = 8 + 8 + 1 + windowSize // packed: in, out, bits, window
	zinfoHeader    = 4 + 8                  // packed: count, span size
	maxZTOC        = 1<<31 - 1              // offsets in a zTOC have 31 bits
)

// Compression is how a layer is compressed, as its media type says it.
type Compression int8

// The numbers are those in a zTOC, but for the zero value, which is Gzip.
const (
	Gzip         Compression = 0
	Uncompressed Compression = 2
)

// String is the name that the soci tools use.
func (c Compression) String() string {
	switch c {
	case Gzip:
		return "gzip"
	case Uncompressed:
		return "uncompressed"
	}
	return fmt.Sprintf("compression(%d)", int8(c))
}

// Options are what a Builder may be told. The zero value is what the official
// builder does with a gzip layer.
type Options struct {
	Compression Compression
	// SpillDir is where checkpoints, the digests of many spans and long tables of
	// contents go when they would take more memory than a few MiB. "" is os.TempDir().
	SpillDir string
	// SkipLayerDigest leaves LayerDigest empty, for callers that hash the layer's
	// bytes anyway: it is a fifth of the work, half of it where a layer is hard to
	// compress.
	SkipLayerDigest bool
	// SerialHash hashes one span after another, for callers that have many builds
	// at once: spans' digests, the layer's own, and an uncompressed layer's tar are
	// one goroutine's work then. Else two spans are hashed at a time where there are
	// two processors, and the rest beside them, for which up to 2 MiB more of the
	// layer may be waiting in memory.
	SerialHash bool
	// DiffID also computes the digest of the uncompressed stream.
	DiffID bool
	// MaxEntries bounds the number of files. 0 is 10 million.
	MaxEntries int
	// MaxTOCBytes bounds what is kept of all files: names, links, owners, PAX
	// records. 0 is 1 GiB.
	MaxTOCBytes int64
	// MaxSize bounds the zTOC, and so the disk space that checkpoints take
	// while it is built. 0, and anything larger, is the format's 2 GiB.
	MaxSize int64
	// MaxUncompressed bounds the uncompressed stream. 0 is no bound.
	MaxUncompressed int64
}

func (o Options) withDefaults() Options {
	if o.MaxEntries <= 0 {
		o.MaxEntries = 10_000_000
	}
	if o.MaxTOCBytes <= 0 {
		o.MaxTOCBytes = 1 << 30
	}
	if o.MaxSize <= 0 || o.MaxSize > maxZTOC {
		o.MaxSize = maxZTOC
	}
	if o.MaxUncompressed <= 0 {
		o.MaxUncompressed = 1<<63 - 1
	}
	return o
}

// foreign are compressions that layers do not have, by how they begin.
var foreign = []struct{ name, magic string }{
	{"zstd", "\x28\xb5\x2f\xfd"}, {"xz", "\xfd7zXZ\x00"}, {"bzip2", "BZh"}, {"lz4", "\x04\x22\x4d\x18"}, {"lzip", "LZIP"},
}

// Detect tells by a layer's first bytes, 512 of them or all where it has fewer,
// how it is compressed: what is nothing else that is known is taken for a tar. An
// *Error of class algorithm says that the compression has no zTOC, one of class
// gzip-header that it is a zlib stream.
//
// In an image the media type says it, whatever the bytes are.
func Detect(head []byte) (Compression, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip, nil
	case len(head) >= tarBlock && formatOf(head[:tarBlock]) != tarUnknown:
		return Uncompressed, nil // whatever the first file is called
	}
	for _, f := range foreign {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return 0, refuse(ClassAlgorithm, 0, fmt.Errorf("%s, neither gzip nor tar: %w", f.name, ErrUnsupported))
		}
	}
	if len(head) >= 2 && head[0] == 0x78 && (int(head[0])<<8+int(head[1]))%31 == 0 {
		return 0, refuse(ClassGzipHeader, 0, fmt.Errorf("zlib stream, neither gzip nor tar: %w", ErrNotGzip))
	}
	return Uncompressed, nil
}
