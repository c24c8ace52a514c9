package ztoc

import (
	"errors"
	"fmt"
	"sort"
)

// Reason is why today's clients do not take a zTOC, though it is what the
// official builder makes.
type Reason string

// The reasons.
const (
	RejectTOC          Reason = "toc"          // an entry begins before the one in front of it has ended
	RejectNonMonotonic Reason = "nonmonotonic" // a span without bytes, compressed or not
	RejectSpans        Reason = "spans"        // no span at all, or numbers that contradict each other
	RejectHardlink     Reason = "hardlink"     // a hard link to a file that the layer has not, or not yet
	RejectPastEnd      Reason = "past-end"     // a file that goes on behind the end of the layer: it is taken, and cannot be read
	RejectUnreadable   Reason = "unreadable"   // files that are shown and cannot be opened
)

// RejectError says that clients from v0.14.0 on do not mount a layer with this
// zTOC, or mount it and cannot read all of it. The layer is better off without one: then it is pulled whole.
type RejectError struct {
	Reason Reason
	Detail string
}

func (e *RejectError) Error() string {
	verb := "reject the ztoc"
	if e.Reason == RejectPastEnd || e.Reason == RejectUnreadable {
		verb = "take the ztoc, but cannot read all files"
	}
	return fmt.Sprintf("clients %s (%s): %s", verb, e.Reason, e.Detail)
}

// CheckClient says whether the zTOC is fit for today's clients, as Result's does: a
// *RejectError if not, nil if so. It reads all of it but the windows. Other errors
// are ErrInvalid or the reader's.
//
// RejectUnreadable it says of what the zTOC shows: sparse files that have PAX
// records, and files without a time. Owners beyond 32 bits only a build can see.
//
// Clients also want the layer's bytes before the first span to be a gzip
// header, which is not looked at here.
func (z *ZTOC) CheckClient() error {
	links, unfit, err := z.checkEntries()
	if err != nil {
		return err
	}
	if err := z.checkSpans(); err != nil {
		return err
	}
	if len(links.seen) == 0 {
		return unfit
	}
	for e, err := range z.Entries() {
		if err != nil {
			return err
		}
		if e.Type == TypeHardlink {
			if err := links.check(e.Name, e.Linkname); err != nil {
				return err
			}
		}
		links.entry(e.Name)
	}
	return unfit
}

// checkEntries sees whether entries lie one behind the other, and gives the
// targets of all hard links, and whether there are files that cannot be read.
func (z *ZTOC) checkEntries() (links *linkTargets, unfit, err error) {
	var r reject
	var last int64
	sorted, unreadable := true, 0
	links = &linkTargets{seen: map[uint64]bool{}}
	for e, err := range z.Entries() {
		if err != nil {
			return nil, nil, err
		}
		if e.Type == TypeHardlink {
			links.want(e.Linkname)
		}
		sorted = sorted && last <= e.Offset
		last = e.Offset
		r.entry(e.Offset, e.Size, e.Type == TypeReg)
		if e.ModTime == "" || e.sparse() {
			unreadable++
		}
	}
	if !sorted {
		if r, err = z.checkSorted(); err != nil {
			return nil, nil, err
		}
	}
	return links, r.unfit(z.ArchiveSize, unreadable, z.NumEntries), r.err
}

// checkSorted looks at the entries in the order in which they lie, which is not
// that of the table.
func (z *ZTOC) checkSorted() (r reject, err error) {
	type extentOf struct {
		off, size int64
		file      bool
	}
	var all []extentOf
	for e, err := range z.Entries() {
		if err != nil {
			return r, err
		}
		all = append(all, extentOf{e.Offset, e.Size, e.Type == TypeReg})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].off < all[j].off })
	for _, e := range all {
		r.entry(e.off, e.size, e.file)
	}
	return r, nil
}

// checkSpans sees whether spans are as many as they are said to be, and each has
// bytes in both streams.
func (z *ZTOC) checkSpans() error {
	if z.NumSpans == 0 || int64(z.NumSpans) != z.digests.n || int(z.maxSpanID) != z.NumSpans-1 {
		return &RejectError{RejectSpans, fmt.Sprintf("%d spans, %d digests, largest number %d", z.NumSpans, z.digests.n, z.maxSpanID)}
	}
	s, err := z.spans()
	if errors.Is(err, ErrInvalid) {
		return &RejectError{RejectSpans, err.Error()}
	}
	if err != nil {
		return err
	}
	for i := range z.NumSpans - 1 {
		if s.out[i] >= s.out[i+1] {
			return nonMonotonic(int64(i))
		}
	}
	return nil
}

func nonMonotonic(span int64) *RejectError {
	return &RejectError{RejectNonMonotonic, fmt.Sprintf("span %d has no uncompressed bytes", span)}
}

// reject finds out about the table of contents while its entries go by.
type reject struct {
	next int64 // where the next entry can begin
	end  int64 // of the file that goes on farthest
	err  error
}

func (r *reject) entry(off, size int64, file bool) {
	if file {
		r.end = max(r.end, endOf(off, size))
	}
	if off < r.next && r.err == nil {
		r.err = &RejectError{RejectTOC, fmt.Sprintf("an entry begins at %d, before %d, where the one in front of it ends", off, r.next)}
	}
	r.next = endOf(off, size)
	if rest := r.next % tarBlock; rest > 0 {
		r.next = endOf(r.next, tarBlock-rest)
	}
}

// endOf is where size bytes from off on end; the largest number for what no
// stream has.
func endOf(off, size int64) int64 {
	if size > 0 && off > 1<<63-1-size {
		return 1<<63 - 1
	}
	return off + size
}

// unfit says whether a file goes on behind the end of the archive, as a sparse
// one may that comes last, or how many of all cannot be opened.
func (r *reject) unfit(archive int64, unreadable, all int) error {
	switch {
	case r.end > archive:
		return &RejectError{RejectPastEnd, fmt.Sprintf("a file goes on until %d, the archive until %d", r.end, archive)}
	case unreadable > 0:
		return &RejectError{RejectUnreadable, fmt.Sprintf(
			"%d of %d files are sparse, or have an owner or a time that does not fit, and cannot be opened", unreadable, all)}
	}
	return nil
}
