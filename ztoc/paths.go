package ztoc

import (
	"bytes"
	"hash/maphash"
	"path"
)

// pathHash hashes the paths that entries have in an unpacked layer.
type pathHash struct {
	hash maphash.Hash
	buf  []byte
}

// prefixes gives the hashes of a name's path and of the directories that lead to
// it, in one go over the name.
func (ph *pathHash) prefixes(name []byte) func(func(uint64) bool) {
	name = ph.clean(name)
	return func(yield func(uint64) bool) {
		ph.hash.Reset()
		for len(name) > 0 {
			n := len(name)
			if i := bytes.IndexByte(name[1:], '/'); i >= 0 {
				n = i + 1
			}
			_, _ = ph.hash.Write(name[:n]) // never fails
			name = name[n:]
			if !yield(ph.hash.Sum64()) {
				return
			}
		}
	}
}

// sum gives the hash of a name's path. It reports whether that is any but the
// root.
func (ph *pathHash) sum(name []byte) (uint64, bool) {
	name = ph.clean(name)
	ph.hash.Reset()
	_, _ = ph.hash.Write(name) // never fails
	return ph.hash.Sum64(), len(name) > 0
}

// clean is cleanPath, good until the next call. Names that are nearly clean, as
// most are, are not copied.
func (ph *pathHash) clean(name []byte) []byte {
	name = bytes.TrimLeft(bytes.TrimPrefix(name, []byte("./")), "/")
	name = bytes.TrimSuffix(name, []byte("/"))
	if isClean(name) {
		return name
	}
	p := ph.buf[:0]
	for part := range bytes.SplitSeq(name, []byte("/")) {
		switch string(part) {
		case "", ".":
		case "..":
			p = p[:max(0, bytes.LastIndexByte(p, '/'))]
		default:
			if len(p) > 0 {
				p = append(p, '/')
			}
			p = append(p, part...)
		}
	}
	ph.buf = p
	return p
}

// isClean says that no part of a path is empty or made of dots.
func isClean(name []byte) bool {
	for {
		part, rest, more := bytes.Cut(name, []byte("/"))
		if n := len(part); n == 0 || part[0] == '.' && (n == 1 || n == 2 && part[1] == '.') {
			return false
		}
		if !more {
			return true
		}
		name = rest
	}
}

// cleanPath is the path that an entry has in an unpacked layer, without a slash
// at either end.
func cleanPath(name string) string {
	if name = path.Clean("/" + name); name == "/" {
		return ""
	}
	return name[1:]
}
