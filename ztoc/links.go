package ztoc

import (
	"errors"
	"fmt"
	"io"
)

// maxTargets bounds the targets of hard links that are looked for at once: they
// take 2 MiB then.
const maxTargets = 3<<16 - 1

// linksBack finds hard links to files that are not in front of them, while
// entries come last one first: it keeps the targets for which there is no file
// yet, as hashes of their clean names. Where these are too many, it leaves those
// with the higher hashes for another time.
type linksBack struct {
	want hashSet
	from uint64 // hashes that this time is about
	to   uint64 // inclusive
	most int    // targets at once
	// passes is how often verdict has looked at all entries.
	passes int
	pathHash
}

// newLinksBack begins with all hashes.
func newLinksBack() *linksBack { return &linksBack{to: 1<<64 - 1, most: maxTargets} }

// name notes the name of an entry.
func (l *linksBack) name(name []byte) {
	if l.want.n == 0 {
		return
	}
	for h := range l.prefixes(name) {
		l.want.remove(h)
	}
}

// target notes, after its name, what an entry links to.
func (l *linksBack) target(e *rawEntry, link []byte) {
	if entryTypes[e.kind] != TypeHardlink {
		return
	}
	if h, ok := l.sum(link); ok && h >= l.from && h <= l.to {
		l.want.add(h)
	}
	for l.want.n > l.most {
		l.to = l.from + (l.to-l.from)/2
		l.want.keep(l.to)
	}
}

// next begins anew, with the hashes that were left. It reports whether there are
// any.
func (l *linksBack) next() bool {
	if l.to == 1<<64-1 {
		return false
	}
	l.from, l.to = l.to+1, 1<<64-1
	l.want.clear()
	return true
}

// verdict is a *RejectError for the first link that leads nowhere, nil if there
// is none. What came last one first were the entries on the tape; z is their
// zTOC.
func (l *linksBack) verdict(entries *tape, z io.ReaderAt, size int64) error {
	first, total := int64(1<<63-1), int64(1<<63-1)
	var dead error
	for {
		if l.want.n > 0 {
			i, err := l.firstDead(z, size, first)
			if i < 0 {
				return err
			}
			if i < first {
				first, dead = i, err
			}
		}
		if !l.next() {
			return dead
		}
		n, err := l.again(entries, total, first)
		if err != nil {
			return err
		}
		total = n
	}
}

// again looks at all entries once more, and gives how many there are. Where that
// is known, as total, it looks for the targets of those alone that are in front of
// number first: behind a link that is dead none is the first. So a layer of dead
// links does not take a time for each part of them.
func (l *linksBack) again(entries *tape, total, first int64) (n int64, err error) {
	l.passes++
	r := entries.backward()
	var e rawEntry
	for r.more() {
		e.read(r)
		n++
		l.name(r.text())
		if link := r.text(); total-n < first {
			l.target(&e, link)
		}
		for range 2 + 2*e.pax {
			r.text()
		}
	}
	return n, r.err
}

// firstDead gives the first of all links to what is wanted, and its number, which
// is limit where it is not below; -1 says that the error is another.
func (l *linksBack) firstDead(z io.ReaderAt, size, limit int64) (int64, error) {
	parsed, err := Parse(z, size)
	if err != nil {
		return -1, err
	}
	var i int64
	for e, err := range parsed.Entries() {
		if err != nil {
			return -1, err
		}
		if i == limit {
			return limit, nil
		}
		if e.Type == TypeHardlink {
			if h, ok := l.sum([]byte(e.Linkname)); ok && l.want.has(h) {
				return i, deadLink(e.Name, e.Linkname)
			}
		}
		i++
	}
	return -1, errors.New("a hard link is not in its own ztoc")
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

// clear removes all values.
func (s *hashSet) clear() {
	clear(s.slots)
	s.n = 0
}

// keep removes the values above most.
func (s *hashSet) keep(most uint64) {
	for i := 0; i < len(s.slots); {
		if s.slots[i] > most {
			s.remove(s.slots[i]) // what comes here instead is looked at, too
		} else {
			i++
		}
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
	pathHash
}

// want notes the target of a link.
func (l *linkTargets) want(link string) {
	if h, ok := l.sum([]byte(link)); ok {
		l.seen[h] = false
	}
}

// entry notes an entry.
func (l *linkTargets) entry(name string) {
	for h := range l.prefixes([]byte(name)) {
		if there, ok := l.seen[h]; ok && !there {
			l.seen[h] = true
		}
	}
}

// check says whether a link leads to a file seen before it.
func (l *linkTargets) check(name, link string) error {
	if h, ok := l.sum([]byte(link)); ok && !l.seen[h] {
		return deadLink(name, link)
	}
	return nil
}

func deadLink(name, link string) *RejectError {
	return &RejectError{RejectHardlink, fmt.Sprintf("%q links to %q, which is not in front of it", name, link)}
}
