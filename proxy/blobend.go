package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/sociable/sociable/internal/upstream"
)

// Where a blob ends is what upstream says, with its first answer as a rule. One
// that sends it without a length says so by the end of what it sends, or by having
// nothing from there on.

// learnEnd settles the size where upstream did not tell it and the body ended.
func (f *fill) learnEnd(pos int64) error {
	if f.knownSize() >= 0 {
		return nil
	}
	f.mu.Lock()
	more := f.have.Next(pos, farAway) < farAway
	f.mu.Unlock()
	if more {
		return fmt.Errorf("%w: upstream %s ends %s after %d bytes, and sent more of it before",
			upstream.ErrDigest, f.up.Name, f.d, pos)
	}
	return f.learnSize(pos)
}

// endsAt reports whether err says where the blob ends, by there being no byte at
// pos. The error is that of an upstream which said otherwise before.
func (f *fill) endsAt(pos int64, err error) (bool, error) {
	r, ok := errors.AsType[*upstream.RangeError](err)
	switch size := f.knownSize(); {
	case !ok:
		return false, nil
	case r.Size >= 0 && r.Size <= pos && size < 0:
		return true, f.learnEnd(r.Size)
	case r.Size > pos:
		return true, nonsense(f.up, fmt.Sprintf("nothing of %s from byte %d on, of %d", f.d, pos, r.Size))
	case r.Size >= 0:
		return true, f.learnSize(r.Size)
	case pos < size:
		return true, f.contradicted(fmt.Sprintf("nothing of %s from byte %d on, and it had %d", f.d, pos, size))
	case r.Size < 0 && size < 0 && pos > 0 && f.hasUpTo(pos):
		return true, f.learnEnd(pos)
	}
	return false, nil
}

// sizeByHead asks for the size by itself, for who wants a range: where the bytes are
// here, so that nothing is fetched for them, or what was fetched did not tell it. -1:
// upstream does not tell. After an answered GET a HEAD may fail: the whole is to be had.
func (f *fill) sizeByHead(ctx context.Context, who asker, answered bool) (int64, error) {
	err := f.headSize(ctx, who)
	if _, silent := errors.AsType[*upstream.ProtocolError](err); silent || answered {
		err = nil
	}
	return f.knownSize(), err
}

func (f *fill) knownSize() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// hasUpTo reports whether the byte before pos is here.
func (f *fill) hasUpTo(pos int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have.At(pos-1) >= pos
}
