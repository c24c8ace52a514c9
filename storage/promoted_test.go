package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestPromotedAndRead has blobs arrive whose readers are slow: as long as they
// read, the bytes are on the medium, and count.
func TestPromotedAndRead(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000})
	body := kb("a", 800)
	a := r.openPartial(digest.FromBytes(body))
	writeAt(t, a, body, ranges(0, 800_000)...)
	if err := a.Promote(t.Context(), storage.KindBlob, 800_000); err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := r.openPartial(digest.FromString("b"))
	if err := b.Reserve(t.Context(), 800_000); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Reserve while the first is read: %v, want ErrFull", err)
	}
	r.wantServed("what is read", digest.FromBytes(body))
	closeIt(t, a)
	if err := b.Reserve(t.Context(), 800_000); err != nil {
		t.Errorf("Reserve when the first is not read any more: %v", err)
	}
	r.wantAbsent("what made room", digest.FromBytes(body))
	closeIt(t, b)
	r.wantUsage()
}

// TestPromotedTwice has a blob come by another way while it arrives: the bytes
// that lie there twice count twice until the second file is closed.
func TestPromotedTwice(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000})
	body := kb("a", 400)
	p := r.openPartial(digest.FromBytes(body))
	writeAt(t, p, body, ranges(0, 400_000)...)
	r.mustPut(body, storage.KindBlob, storage.Durable)
	if err := p.Promote(t.Context(), storage.KindBlob, 400_000); err != nil {
		t.Fatal(err)
	}
	if got := r.Usage().Total(); got != 800_000 {
		t.Errorf("%d bytes are counted, want 800000", got)
	}
	closeIt(t, p)
	if got := r.Usage().Total(); got != 400_000 {
		t.Errorf("%d bytes are counted, want 400000", got)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantUsage()
}
