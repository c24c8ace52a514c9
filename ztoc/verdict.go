package ztoc

import "fmt"

// Reason is why today's clients do not take a zTOC, though it is what the
// official builder makes.
type Reason string

// The reasons.
const (
	RejectTOC          Reason = "toc"          // an entry begins before the one in front of it has ended
	RejectNonMonotonic Reason = "nonmonotonic" // a span without bytes, compressed or not
	RejectSpans        Reason = "spans"        // no span at all, or numbers that contradict each other
	RejectHardlink     Reason = "hardlink"     // a hard link to a file that the layer has not, or not yet
)

// RejectError says that clients from v0.14.0 on do not mount a layer with this
// zTOC. The layer is better off without one: then it is pulled whole.
type RejectError struct {
	Reason Reason
	Detail string
}

func (e *RejectError) Error() string {
	return fmt.Sprintf("clients reject the ztoc (%s): %s", e.Reason, e.Detail)
}

// reject finds out about the table of contents while its entries go by.
type reject struct {
	next int64 // where the next entry can begin
	err  error
}

func (r *reject) entry(name string, off, size int64) {
	if off < r.next && r.err == nil {
		r.err = &RejectError{RejectTOC, fmt.Sprintf("entry %q begins at %d, before %d", name, off, r.next)}
	}
	r.next = (off + size + 511) &^ 511
}
