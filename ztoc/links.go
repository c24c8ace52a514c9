package ztoc

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"path"
	"slices"
)

// maxTargets bounds the targets of hard links that are looked for at once: they
// take 8 MiB then.
const maxTargets = 3<<18 - 1

// linksBack finds hard links to files that are not in front of them, while
// entries come last one first: it keeps the targets for which there is no file
// yet, as hashes of their clean names.
type linksBack struct {
	want hashSet
	hash maphash.Hash
}

// entry notes an entry, and its target if it is a hard link.
func (l *linksBack) entry(e *rawEntry) error {
	isLink := entryTypes[e.kind] == TypeHardlink
	if l.want.n == 0 && !isLink {
		return nil
	}
	for h := range prefixes(&l.hash, cleanEntry(e.str[0])) {
		l.want.remove(h)
	}
	if !isLink {
		return nil
	}
	if target := cleanEntry(e.str[1]); len(target) > 0 {
		l.want.add(sumOf(&l.hash, target))
	}
	if l.want.n > maxTargets {
		return refuse(ClassLimit, e.num[0], fmt.Errorf("hard links to %d files: %w", l.want.n, ErrTooLarge))
	}
	return nil
}

// verdict is a *RejectError for the first link that leads nowhere, nil if there
// is none. z is the zTOC of the entries.
func (l *linksBack) verdict(z io.ReaderAt, size int64) error {
	if l.want.n == 0 {
		return nil
	}
	parsed, err := Parse(z, size)
	if err != nil {
		return err
	}
	for e, err := range parsed.Entries() {
		if err != nil {
			return err
		}
		if e.Type == TypeHardlink && l.want.has(sumOf(&l.hash, cleanEntry([]byte(e.Linkname)))) {
			return deadLink(e.Name, e.Linkname)
		}
	}
	return errors.New("a hard link is not in its own ztoc")
}

// prefixes gives the hashes of a clean name and of the directories that lead to
// it, in one go over the name.
func prefixes(h *maphash.Hash, name []byte) func(func(uint64) bool) {
	return func(yield func(uint64) bool) {
		h.Reset()
		for len(name) > 0 {
			n := len(name)
			if i := bytes.IndexByte(name[1:], '/'); i >= 0 {
				n = i + 1
			}
			_, _ = h.Write(name[:n]) // never fails
			name = name[n:]
			if !yield(h.Sum64()) {
				return
			}
		}
	}
}

func sumOf(h *maphash.Hash, name []byte) uint64 {
	h.Reset()
	_, _ = h.Write(name) // never fails
	return h.Sum64()
}

// hashSet is a set of hashes, 8 bytes a slot: a value lies in the first slot
// that was free from the one on which its top bits name.
type hashSet struct {
	slots []uint64 // 0 is free; as many as a power of two
	n     int
}

// find gives the slot of v, or the free one where it would be.
func (s *hashSet) find(v uint64) int {
	i := s.home(v)
	for s.slots[i] != 0 && s.slots[i] != v {
		i = s.next(i)
	}
	return i
}

func (s *hashSet) home(v uint64) int { return int(v>>20) & (len(s.slots) - 1) }
func (s *hashSet) next(i int) int    { return (i + 1) & (len(s.slots) - 1) }

func (s *hashSet) has(v uint64) bool { return s.n > 0 && s.slots[s.find(max(v, 1))] != 0 }

func (s *hashSet) add(v uint64) {
	if 4*(s.n+1) > 3*len(s.slots) {
		old := s.slots
		s.slots = make([]uint64, max(64, 2*len(old)))
		for _, o := range old {
			if o != 0 {
				s.slots[s.find(o)] = o
			}
		}
	}
	v = max(v, 1)
	if i := s.find(v); s.slots[i] == 0 {
		s.slots[i] = v
		s.n++
	}
}

// remove frees a value's slot, and moves those behind it that want to be nearer
// to their own.
func (s *hashSet) remove(v uint64) {
	if s.n == 0 {
		return
	}
	free := s.find(max(v, 1))
	if s.slots[free] == 0 {
		return
	}
	s.n--
	for i := s.next(free); s.slots[i] != 0; i = s.next(i) {
		mask := len(s.slots) - 1
		if (i-s.home(s.slots[i]))&mask >= (i-free)&mask {
			s.slots[free] = s.slots[i]
			free = i
		}
	}
	s.slots[free] = 0
}

// linkTargets are the files that hard links name, and whether there is such a
// file yet: an entry of that name, or one inside a directory of that name.
type linkTargets struct {
	seen map[uint64]bool
	hash maphash.Hash
}

// want notes the target of a link.
func (l *linkTargets) want(link string) {
	l.seen[sumOf(&l.hash, cleanEntry([]byte(link)))] = false
}

// entry notes an entry.
func (l *linkTargets) entry(name string) {
	for h := range prefixes(&l.hash, cleanEntry([]byte(name))) {
		if there, ok := l.seen[h]; ok && !there {
			l.seen[h] = true
		}
	}
}

// check says whether a link leads to a file seen before it.
func (l *linkTargets) check(name, link string) error {
	target := cleanEntry([]byte(link))
	if len(target) == 0 || l.seen[sumOf(&l.hash, target)] {
		return nil
	}
	return deadLink(name, link)
}

func deadLink(name, link string) *RejectError {
	return &RejectError{RejectHardlink, fmt.Sprintf("%q links to %q, which is not in front of it", name, link)}
}

// cleanEntry is the path that an entry has in an unpacked layer, without a
// slash at either end. Names that are nearly clean, as most are, are not copied.
func cleanEntry(name []byte) []byte {
	name = bytes.TrimPrefix(name, []byte("./"))
	name = bytes.TrimSuffix(name, []byte("/"))
	if len(name) > 0 && name[0] != '/' && name[0] != '.' && !bytes.Contains(name, []byte("//")) && !bytes.Contains(name, []byte("/.")) {
		return name
	}
	return []byte(cleanPath(string(name)))
}

// cleanPath is cleanEntry for strings.
func cleanPath(name string) string {
	if name = path.Clean("/" + name); name == "/" {
		return ""
	}
	return name[1:]
}

// positions are numbers that are read back in the order in which they were
// added.
type positions struct {
	spill *spill
	full  []extent
	inMem int
	cur   []byte
	buf   []byte // of the extent that is read
}

const (
	positionsChunk  = 64 << 10
	positionsMemory = 16 // chunks that are kept in memory; the rest is spilled
)

func (p *positions) add(v uint32) error {
	if len(p.cur)+4 > cap(p.cur) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.cur = append(p.cur, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	return nil
}

func (p *positions) flush() error {
	e := extent{mem: p.cur, n: int64(len(p.cur))}
	switch {
	case len(p.cur) == 0:
		p.cur = make([]byte, 0, positionsChunk)
		return nil
	case p.inMem < positionsMemory:
		p.inMem++
		p.cur = make([]byte, 0, positionsChunk)
	default:
		var err error
		if e, err = p.spill.add(p.cur); err != nil {
			return err
		}
		p.cur = p.cur[:0]
	}
	p.full = append(p.full, e)
	return nil
}

// next gives the number that was added first of those that are left.
func (p *positions) next() (uint32, error) {
	for len(p.buf) == 0 {
		if len(p.full) == 0 {
			p.buf, p.cur = p.cur, nil
			continue
		}
		var err error
		if p.buf, err = p.spill.bytes(p.full[0], nil); err != nil {
			return 0, err
		}
		p.full = slices.Delete(p.full, 0, 1)
	}
	v := uint32(p.buf[0]) | uint32(p.buf[1])<<8 | uint32(p.buf[2])<<16 | uint32(p.buf[3])<<24
	p.buf = p.buf[4:]
	return v, nil
}
