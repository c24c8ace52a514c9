package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestStraysAreCounted leaves what a crash leaves, files without rows and more in
// a partial than was filed: all of it counts from the first write on, and is the
// first to go.
func TestStraysAreCounted(t *testing.T) {
	const limit = 2_000_000
	dir := t.TempDir()
	r := newRig(t, dir, nil, storage.Options{})
	kept := r.mustPut(kb("kept", 200), storage.KindBlob, storage.Durable)
	body := kb("partial", 600)
	p := r.openPartial(digest.FromBytes(body))
	if _, err := p.WriteAt(body[:500_000], 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Checkpoint(t.Context(), int64(len(body)), []oci.Range{{Off: 0, End: 100_000}}); err != nil {
		t.Fatal(err)
	}
	stray := kb("stray", 700)
	r.mustPut(stray, storage.KindBlob, storage.Cached) // never filed
	upload := filepath.Join(dir, "partial", "upload-gone")
	if err := os.WriteFile(upload, kb("upload", 300), 0o600); err != nil {
		t.Fatal(err)
	}
	r = r.reopen(storage.Options{MaxBytes: limit})
	next := r.mustPut(kb("next", 100), storage.KindBlob, storage.Durable)
	if u := r.Usage(); u.Stray != 1_000_000 || u.Partial != 500_000 || u.Total() != 1_800_000 {
		t.Errorf("counted: strays %d, partial %d, in all %d", u.Stray, u.Partial, u.Total())
	}
	more := r.mustPut(kb("more", 400), storage.KindBlob, storage.Durable)
	if u := r.Usage(); u.Stray != 0 || u.Total() > limit {
		t.Errorf("with a write that needs their room: strays %d, in all %d", u.Stray, u.Total())
	}
	if _, err := os.Stat(upload); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("file of an upload that is over: %v", err)
	}
	r.wantAbsent("what was never filed", digest.FromBytes(stray))
	for _, d := range []digest.Digest{kept, next, more} {
		r.wantServed("what has a row", d)
	}
	again := r.openPartial(digest.FromBytes(body))
	if _, err := again.WriteAt(body[100_000:], 100_000); err != nil {
		t.Fatal(err)
	}
	if err := again.Promote(t.Context(), storage.KindBlob, int64(len(body))); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := r.Usage().Total(), int64(200_000+100_000+400_000+600_000); got != want {
		t.Errorf("%d bytes are counted at the end, want %d", got, want)
	}
}

// TestDiscardedIsCounted holds that the bytes of a partial count as long as they
// take room: until it is closed.
func TestDiscardedIsCounted(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *rig, *storage.Partial, digest.Digest) error{
		"discarded": func(t *testing.T, _ *rig, p *storage.Partial, _ digest.Digest) error { return p.Discard(t.Context()) },
		"purged": func(t *testing.T, r *rig, _ *storage.Partial, d digest.Digest) error {
			freed, err := r.Purge(t.Context(), d)
			if freed != 500_000 {
				t.Errorf("purge says that %d bytes go", freed)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 2_000_000})
			body := kb("partial", 500)
			d := digest.FromBytes(body)
			p := r.openPartial(d)
			if _, err := p.WriteAt(body, 0); err != nil {
				t.Fatal(err)
			}
			if err := lose(t, r, p, d); err != nil {
				t.Fatal(err)
			}
			if n := r.Usage().Total(); n != 500_000 {
				t.Errorf("%d bytes are counted while it is open", n)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if n := r.Usage().Total(); n != 0 {
				t.Errorf("%d bytes are counted when it is closed", n)
			}
		})
	}
}

// TestPurgeCountsOnce purges a blob that has its name and not yet its row, while
// the row of the partial that it was is still there.
func TestPurgeCountsOnce(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	body := kb("blob", 300)
	d := digest.FromBytes(body)
	p := r.openPartial(d)
	_, err := p.WriteAt(body, 0)
	err = errors.Join(err,
		p.Checkpoint(t.Context(), int64(len(body)), []oci.Range{{Off: 0, End: int64(len(body))}}),
		p.Promote(t.Context(), storage.KindBlob, int64(len(body))), p.Close())
	if err != nil {
		t.Fatal(err)
	}
	if freed, err := r.Purge(t.Context(), d); err != nil || freed != int64(len(body)) {
		t.Errorf("purge: %d bytes, %v, want %d", freed, err, len(body))
	}
	r.wantUsage()
}
