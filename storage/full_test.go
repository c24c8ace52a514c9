package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// fullMedium refuses, from now on and until the blob old has been removed, each
// of ops with what the kernel says of a full file system, or a quota.
func fullMedium(f *storagetest.Faults, old digest.Digest, err error, ops ...string) (refused *atomic.Int32) {
	refused = new(atomic.Int32)
	var removed atomic.Int32
	f.Hook(func(s storagetest.Step) error {
		if s.Op == "remove" && strings.HasSuffix(s.Name, old.Encoded()) {
			removed.Add(1)
		}
		for _, op := range ops {
			if s.Op == op && removed.Load() == 0 {
				refused.Add(1)
				return err
			}
		}
		return nil
	})
	return refused
}

// TestFullMedium fills the medium long before any limit: what is cached makes
// room, for each way in which bytes and rows come.
func TestFullMedium(t *testing.T) {
	writers := map[string]func(*testing.T, *rig, []byte) error{
		"blob": func(_ *testing.T, r *rig, body []byte) error {
			_, err := r.put(body, storage.KindSpan, storage.Cached)
			return err
		},
		"put": func(t *testing.T, r *rig, body []byte) error {
			return r.Put(t.Context(), storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindManifest}, body, nil)
		},
		"partial": func(t *testing.T, r *rig, body []byte) error {
			p, err := r.OpenPartial(t.Context(), digest.FromBytes(body))
			if err != nil {
				return err
			}
			_, err = p.WriteAt(body, 0)
			if err == nil {
				err = p.Checkpoint(t.Context(), int64(len(body)), []oci.Range{{Off: 0, End: int64(len(body))}})
			}
			if err == nil {
				err = p.Promote(t.Context(), storage.KindBlob, int64(len(body)))
			}
			return errors.Join(err, p.Close())
		},
		"upload": func(t *testing.T, r *rig, body []byte) error {
			u, err := r.NewUploadBy(t.Context(), "", 0, oci.Repo{Upstream: "local", Name: "a"}, digest.SHA256)
			if err != nil {
				return err
			}
			defer u.Release()
			d := digest.FromBytes(body)
			if _, err := u.Write(t.Context(), body); err != nil {
				return err
			}
			return errors.Join(u.Checkpoint(t.Context()), u.Matches(t.Context(), d), u.Commit(t.Context(), d, storage.KindHosted, nil))
		},
	}
	for name, write := range writers {
		for _, op := range []string{"create", "write", "mkdir", "rename"} {
			for _, cause := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
				t.Run(fmt.Sprint(name, " ", op, " ", int(cause)), func(t *testing.T) {
					dir := t.TempDir()
					r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{MaxBytes: 1 << 40})
					old := r.mustPut(kb("old", 200), storage.KindBlob, storage.Durable)
					pinned := r.mustPut(kb("pushed", 200), storage.KindHosted, storage.Durable)
					refused := fullMedium(r.faults, old, cause, op)
					body := kb("new", 300)
					if err := write(t, r, body); err != nil {
						t.Fatal(err)
					}
					if refused.Load() == 0 {
						t.Fatal("the medium was never full")
					}
					r.wantAbsent("what was read longest ago", old)
					r.wantServed("what was pushed", pinned)
					r.wantServed("what came", digest.FromBytes(body))
				})
			}
		}
	}
}

// TestFullMediumForRows has the medium refuse rows until a blob has gone.
func TestFullMediumForRows(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{})
	old := r.mustPut(kb("old", 200), storage.KindBlob, storage.Durable)
	var refused atomic.Bool
	r.faults.Hook(func(s storagetest.Step) error {
		if s.Op == "update" && !refused.Swap(true) {
			return fmt.Errorf("%w: %w", storage.ErrFull, syscall.ENOSPC)
		}
		return nil
	})
	repo := oci.Repo{Upstream: "up", Name: "a"}
	err := r.Update(t.Context(), func(tx storage.Tx) error { return tx.PutRight(repo, old) })
	if err != nil || !refused.Load() {
		t.Errorf("Update: %v; refused %t", err, refused.Load())
	}
	r.wantAbsent("what was read longest ago", old)
}

// TestFullMediumOfWhatStays has nothing that could go: ErrFull, at once.
func TestFullMediumOfWhatStays(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{})
	d := r.mustPut(kb("pushed", 200), storage.KindHosted, storage.Durable)
	refused := fullMedium(r.faults, d, syscall.ENOSPC, "write")
	for range 2 {
		if _, err := r.put(kb("new", 300), storage.KindSpan, storage.Cached); !errors.Is(err, storage.ErrFull) {
			t.Errorf("put: %v, want ErrFull", err)
		}
	}
	if n := refused.Load(); n > 4 {
		t.Errorf("the medium was asked %d times", n)
	}
	r.wantServed("what was pushed", d)
	if n := r.Usage().Total(); n != 200_000 {
		t.Errorf("%d bytes are counted, want those of what was pushed", n)
	}
}

// TestFullMediumWhileReducing has the medium refuse the name of the very blob that
// is a span of the layer which makes room: nobody waits for himself.
func TestFullMediumWhileReducing(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 300_000, spanSize)
	for name, write := range map[string]func(*rig, []byte) error{
		"span": func(r *rig, body []byte) error {
			_, err := r.put(body, storage.KindSpan, storage.Cached)
			return err
		},
		"pushed": func(r *rig, body []byte) error { return r.upload(body, len(body)/2) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, dir, storagetest.NewFaults(dir), storage.Options{})
			l.Store(t, r.Store)
			sp := l.Table.Span(1)
			r.Heat(l.Digest(), oci.Range{Off: sp.Off, End: sp.Off + 1})
			refused := fullMedium(r.faults, l.Digest(), syscall.ENOSPC, "mkdir", "rename")
			body := l.Body[sp.Off:sp.End]
			if err := write(r, body); err != nil {
				t.Fatal(err)
			}
			if refused.Load() == 0 {
				t.Fatal("the medium was never full")
			}
			r.wantAbsent("the layer", l.Digest())
			r.wantServed("what came", digest.FromBytes(body))
		})
	}
}

// TestFullWhilePending has what was pulled a moment ago, and is not filed yet, be
// pushed, with a medium that is full when that is filed: who makes room then has its
// digest locked, and must not wait for what is pending.
func TestFullWhilePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		faults := storagetest.NewFaults(dir)
		r := newRig(t, dir, faults, storage.Options{})
		hot := r.mustPut(kb("hot", 500), storage.KindBlob, storage.Durable)
		pass(2 * time.Hour)
		r.wantServed("hot", hot) // again
		body := kb("x", 200)
		r.mustPut(body, storage.KindBlob, storage.Cached)
		var once sync.Once
		faults.Hook(func(s storagetest.Step) (err error) {
			if s.Op == "update" {
				once.Do(func() { err = fmt.Errorf("%w: %w", storage.ErrFull, syscall.ENOSPC) })
			}
			return err
		})
		r.wantServed("x", r.mustPut(body, storage.KindHosted, storage.Durable))
	})
}
