package storage

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
)

// offers reports whether d is of what is offered of img besides its index: the
// index with what was learnt, or a prefetch artifact of it.
func (img *ImageRow) offers(d digest.Digest) bool {
	if img.Learned == nil {
		return false
	}
	if img.Learned.Index == d {
		return true
	}
	for _, b := range img.Learned.Blobs {
		if b == d {
			return true
		}
	}
	return false
}

// addLearned plans for the image's index with what was learnt to go, and for the
// prefetch artifacts that no other one names.
func (p *imagePurge) addLearned(tx Tx, img *ImageRow) error {
	if img.Learned == nil {
		return nil
	}
	p.made = append(p.made, img.Learned.Index)
	for _, d := range img.Learned.Blobs {
		shared, err := found(tx.NamedBy(d, func(by digest.Digest) error {
			if by != img.Learned.Index {
				return errOne
			}
			return nil
		}))
		if err != nil {
			return err
		}
		if !shared {
			p.made = append(p.made, d)
		}
	}
	return nil
}

// learnedHere reports whether all of what is offered besides an image's index is
// here.
func learnedHere(tx Tx, l *LearnedIndex) (bool, error) {
	here, err := isHere(tx, l.Index)
	for _, d := range l.Blobs {
		if err != nil || !here {
			break
		}
		_, err = tx.Blob(d)
		here = err == nil
		err = ignoreAbsent(err)
	}
	return here, err
}

// TakenOf gives what was learnt with neighbours as one, as a TakenRow has it.
func TakenOf(learnt []LearntLayer) (out []TakenLayer) {
	for i := range learnt {
		x := TakenLayer{Layer: learnt[i].Layer, SpanSize: learnt[i].SpanSize}
		spans := slices.SortedFunc(slices.Values(learnt[i].Spans), func(a, b LearntSpan) int { return cmp.Compare(a.Span, b.Span) })
		for _, s := range spans {
			if k := len(x.Runs) - 1; k >= 0 && s.Span <= x.Runs[k][1]+1 {
				x.Runs[k][1] = s.Span
			} else {
				x.Runs = append(x.Runs, [2]int{s.Span, s.Span})
			}
		}
		if len(x.Runs) > 0 {
			out = append(out, x)
		}
	}
	return out
}
