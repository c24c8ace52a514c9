package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

var app = oci.Repo{Upstream: "local", Name: "app"}

func (r *rig) newUpload(algorithm digest.Algorithm) *storage.Upload {
	r.t.Helper()
	u, err := r.NewUploadBy(r.t.Context(), "", 0, app, algorithm)
	if err != nil {
		r.t.Fatalf("NewUploadBy: %v", err)
	}
	return u
}

func (r *rig) openUpload(id string) *storage.Upload {
	r.t.Helper()
	u, err := r.OpenUpload(r.t.Context(), app, id)
	if err != nil {
		r.t.Fatalf("OpenUpload: %v", err)
	}
	return u
}

func send(t *testing.T, u *storage.Upload, body []byte) {
	t.Helper()
	if n, err := u.Write(t.Context(), body); n != len(body) || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
}

func commit(t *testing.T, u *storage.Upload, d digest.Digest) {
	t.Helper()
	if err := errors.Join(u.Matches(t.Context(), d), u.Commit(t.Context(), d, storage.KindHosted, nil)); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// TestUploadGoesOn sends a blob in pieces, to a process a piece: what was
// acknowledged is there, and what was not is not.
func TestUploadGoesOn(t *testing.T) {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		r := newRig(t, t.TempDir(), nil, storage.Options{})
		body := storagetest.Bytes("x", 3000)
		d := algorithm.FromBytes(body)
		u := r.newUpload(digest.SHA256)
		id := u.ID()
		for off := 0; off < len(body); off += 1000 {
			send(t, u, body[off:off+1000])
			if err := u.Checkpoint(t.Context()); err != nil {
				t.Fatalf("Checkpoint: %v", err)
			}
			send(t, u, []byte("never acknowledged"))
			r = r.reopen(storage.Options{}) // without Release: the process was killed
			u = r.openUpload(id)
			if u.Size() != int64(off+1000) {
				t.Fatalf("after a restart it has %d bytes, want %d", u.Size(), off+1000)
			}
			if got := r.Usage().Partial; got != u.Size() {
				t.Errorf("account of partials: %d bytes, want %d", got, u.Size())
			}
		}
		commit(t, u, d)
		u.Release()
		r.wantServed("an upload", d)
		if row, err := r.Stat(t.Context(), d); err != nil || row.Kind != storage.KindHosted {
			t.Errorf("its row: %+v, %v", row, err)
		}
		if _, err := r.OpenUpload(t.Context(), app, id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the upload, finished: %v, want ErrNotFound", err)
		}
		r.wantUsage()
	}
}

// TestUploadIsOnes has a second caller wait, and a stranger find nothing.
func TestUploadIsOnes(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	u := r.newUpload(digest.SHA256)
	if err := u.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.OpenUpload(ctx, app, u.ID()); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("while another one has it: %v, want ErrBusy", err)
	}
	other := oci.Repo{Upstream: "local", Name: "other"}
	if _, err := r.OpenUpload(t.Context(), other, u.ID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("in another repository: %v, want ErrNotFound", err)
	}
	if err := u.Cancel(t.Context()); err != nil {
		t.Errorf("Cancel: %v", err)
	}
	u.Release()
	if _, err := r.OpenUpload(t.Context(), app, u.ID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("cancelled: %v, want ErrNotFound", err)
	}
	r.wantUsage()
}

func TestUploadMismatch(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	u := r.newUpload(digest.SHA256)
	send(t, u, []byte("these"))
	d := digest.FromString("others")
	if err := u.Matches(t.Context(), d); !errors.Is(err, storage.ErrDigest) {
		t.Errorf("Matches: %v, want ErrDigest", err)
	}
	if err := u.Commit(t.Context(), d, storage.KindHosted, nil); !errors.Is(err, storage.ErrDigest) {
		t.Errorf("Commit all the same: %v, want ErrDigest", err)
	}
	u.Release() // never acknowledged: gone
	r.wantAbsent("another blob", d)
	r.wantUsage()
	if err := r.disk.WalkPartials(t.Context(), func(key string, _, _ int64) error { t.Errorf("partial %s stays", key); return nil }); err != nil {
		t.Error(err)
	}
}

// TestUploadFollowed reads an upload while it comes, and after it has ended.
func TestUploadFollowed(t *testing.T) {
	body := storagetest.Bytes("x", 1<<20)
	d := digest.FromBytes(body)
	for name, end := range map[string]func(*storage.Upload) error{
		"matches": func(u *storage.Upload) error { return u.Matches(t.Context(), d) },
		"cancel":  func(u *storage.Upload) error { return u.Cancel(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			u := r.newUpload(digest.SHA256)
			send(t, u, body[:1000])
			f, err := u.Follow(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			var rerr error
			var reader sync.WaitGroup
			reader.Go(func() { got, rerr = io.ReadAll(f) })
			for off := 1000; off < len(body); off += 50_000 {
				send(t, u, body[off:min(len(body), off+50_000)])
			}
			if err := end(u); err != nil {
				t.Error(err)
			}
			reader.Wait()
			if want := name == "matches"; want != (rerr == nil) || want && !bytes.Equal(got, body) {
				t.Errorf("read %d bytes, %v", len(got), rerr)
			}
			if name == "matches" {
				commit(t, u, d)
			}
			u.Release()
			closeIt(t, f)
			r.wantUsage()
		})
	}
}

// TestUploadCrowd has many push the same blob at once.
func TestUploadCrowd(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	body := storagetest.Bytes("x", 100_000)
	d := digest.FromBytes(body)
	var crowd sync.WaitGroup
	for range 16 {
		crowd.Go(func() {
			u := r.newUpload(digest.SHA256)
			defer u.Release()
			if _, err := u.Write(t.Context(), body); err != nil {
				t.Error(err)
			}
			err := errors.Join(u.Matches(t.Context(), d), u.Commit(t.Context(), d, storage.KindHosted, nil))
			if err != nil {
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	r.wantServed("what all pushed", d)
	if n := r.Usage().Blobs[storage.KindHosted]; n != 1 {
		t.Errorf("%d blobs are stored, want 1", n)
	}
	r.wantUsage()
}

// TestHostedStays fills the store: what is hosted is not evicted, what was
// cached and is hosted since is not either, and the rest goes.
func TestHostedStays(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 10_000})
	u := r.newUpload(digest.SHA256)
	pushed := storagetest.Bytes("pushed", 3000)
	send(t, u, pushed)
	commit(t, u, digest.FromBytes(pushed))
	u.Release()
	mounted := r.mustPut(storagetest.Bytes("mounted", 3000), storage.KindBlob, storage.Cached)
	if err := r.Host(t.Context(), mounted, nil); err != nil {
		t.Fatalf("Host: %v", err)
	}
	cached := r.mustPut(storagetest.Bytes("cached", 3000), storage.KindBlob, storage.Durable)
	r.mustPut(storagetest.Bytes("more", 3000), storage.KindBlob, storage.Durable)
	r.wantServed("pushed", digest.FromBytes(pushed))
	r.wantServed("mounted", mounted)
	r.wantAbsent("cached", cached)
	u = r.newUpload(digest.SHA256)
	if err := u.Reserve(t.Context(), 5000); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Reserve what only fits without what is hosted: %v, want ErrFull", err)
	}
	u.Release()
	if err := r.Host(t.Context(), digest.FromString("none"), nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Host what is not here: %v, want ErrNotFound", err)
	}
	r.wantUsage()
}

// TestUploadRefused has the transaction say no: nothing stays.
func TestUploadRefused(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	u := r.newUpload(digest.SHA256)
	if err := u.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	send(t, u, []byte("x"))
	d, no := digest.FromString("x"), errors.New("no")
	if err := u.Matches(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(t.Context(), d, storage.KindHosted, func(storage.Tx) error { return no }); !errors.Is(err, no) {
		t.Errorf("Commit: %v, want what the transaction said", err)
	}
	u.Release()
	r.wantAbsent("what was refused", d)
	if ids, err := r.Uploads(t.Context(), func(storage.UploadRow) bool { return true }); len(ids) > 0 || err != nil {
		t.Errorf("Uploads: %v, %v", ids, err)
	}
	r.wantUsage()
}
