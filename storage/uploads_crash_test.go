package storage_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// content files that repo has d.
func content(repo oci.Repo, d digest.Digest, size int) func(storage.Tx) error {
	return func(tx storage.Tx) error {
		return tx.PutContent(storage.ContentRow{Repo: repo, Digest: d, Size: int64(size)})
	}
}

// push sends body in two pieces, of which the first, of n bytes, is acknowledged.
func (r *rig) upload(body []byte, n int) (err error) {
	ctx, d := r.t.Context(), digest.FromBytes(body)
	u, err := r.NewUploadBy(ctx, "", 0, app, digest.SHA256)
	if err != nil {
		return err
	}
	defer u.Release()
	if _, err := u.Write(ctx, body[:n]); err != nil {
		return err
	}
	if err := u.Checkpoint(ctx); err != nil {
		return err
	}
	if _, err := u.Write(ctx, body[n:]); err != nil {
		return err
	}
	if err := u.Matches(ctx, d); err != nil {
		return err
	}
	return u.Commit(ctx, d, storage.KindHosted, content(app, d, len(body)))
}

// TestCrashInCommit ends an upload, all of which was acknowledged. The next
// process has the blob, or the upload with all of its bytes.
func TestCrashInCommit(t *testing.T) {
	body := storagetest.Bytes("x", 3000)
	d := digest.FromBytes(body)
	finish := func(r *rig, id string) error {
		u, err := r.OpenUpload(r.t.Context(), app, id)
		if err != nil {
			return err
		}
		defer u.Release()
		if err := u.Matches(r.t.Context(), d); err != nil {
			return err
		}
		return u.Commit(r.t.Context(), d, storage.KindHosted, content(app, d, len(body)))
	}
	const (
		isNew = iota
		isThere
		isDamaged
	)
	for name, there := range map[string]int{"new": isNew, "there already": isThere, "there and damaged": isDamaged} {
		t.Run(name, func(t *testing.T) {
			var id string
			crashIn(t, func() storage.Options { return storage.Options{} },
				func(r *rig) {
					if there != isNew {
						r.mustPut(body, storage.KindBlob, storage.Durable)
					}
					if there == isDamaged {
						r.rot(d, 1500)
					}
					u := r.newUpload(digest.SHA256)
					id = u.ID()
					for _, piece := range [][]byte{body[:1000], body[1000:]} {
						send(r.t, u, piece)
						if err := u.Checkpoint(r.t.Context()); err != nil {
							r.t.Fatal(err)
						}
					}
					u.Release()
				},
				func(r *rig) error { return finish(r, id) },
				func(t *testing.T, r *rig) {
					err := r.View(t.Context(), func(tx storage.Tx) error { _, err := tx.Content(app, d); return err })
					if errors.Is(err, storage.ErrNotFound) {
						u, err := r.OpenUpload(t.Context(), app, id)
						if err != nil {
							t.Fatalf("neither the blob nor the upload is there: %v", err)
						}
						if u.Size() != int64(len(body)) {
							t.Errorf("the upload has %d bytes, want %d", u.Size(), len(body))
						}
						u.Release()
						err = finish(r, id)
						if err != nil {
							t.Errorf("the upload can't be ended: %v", err)
						}
					} else if err != nil {
						t.Error(err)
					}
					r.wantServed("what was pushed", d)
					if _, err := r.OpenUpload(t.Context(), app, id); !errors.Is(err, storage.ErrNotFound) {
						t.Errorf("the upload, ended: %v, want ErrNotFound", err)
					}
				})
		})
	}
}

// TestCommitTakenBack goes on with an upload of which the bytes were about to be
// a blob, with other bytes than it was to end with.
func TestCommitTakenBack(t *testing.T) {
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	r := newRig(t, dir, faults, storage.Options{})
	body := storagetest.Bytes("x", 3000)
	u := r.newUpload(digest.SHA256)
	id := u.ID()
	send(t, u, body[:2000])
	if err := errors.Join(u.Checkpoint(t.Context()), u.Matches(t.Context(), digest.FromBytes(body[:2000]))); err != nil {
		t.Fatal(err)
	}
	dead := false
	faults.Hook(func(s storagetest.Step) error { // once the bytes have their name
		dead = dead || s.Op == "sync" && strings.HasPrefix(s.Name, "blobs/")
		if dead {
			return storagetest.ErrCrashed
		}
		return nil
	})
	if err := u.Commit(t.Context(), digest.FromBytes(body[:2000]), storage.KindHosted, nil); err == nil {
		t.Fatal("Commit succeeded")
	}
	r = r.reopen(storage.Options{})
	u = r.openUpload(id)
	send(t, u, body[2000:])
	commit(t, u, digest.FromBytes(body))
	u.Release()
	r.wantServed("what was pushed", digest.FromBytes(body))
	r.wantAbsent("what it was about to be", digest.FromBytes(body[:2000]))
	r.wantUsage()
	r.wantNoGarbage()
}

// TestUploadNotSynced has the medium lose what was sent, and say so once. Nothing
// of it counts as being here afterwards, and a client that sends it again is well.
func TestUploadNotSynced(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	r := newRig(t, dir, faults, storage.Options{})
	body := storagetest.Bytes("x", 3000)
	d := digest.FromBytes(body)
	u := r.newUpload(digest.SHA256)
	id := u.ID()
	send(t, u, body[:1000])
	if err := u.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	tap, err := u.Follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, sync := range map[string]func() error{
		"checkpoint": func() error { return u.Checkpoint(ctx) },
		"commit": func() error {
			return errors.Join(u.Matches(ctx, d), u.Commit(ctx, d, storage.KindHosted, nil))
		},
		"release": func() error { u.Release(); u = r.openUpload(id); return errShaky },
	} {
		send(t, u, body[1000:])
		failed := false
		faults.Hook(func(s storagetest.Step) error {
			if failed || s.Op != "sync" || !strings.HasPrefix(s.Name, "partial/upload-") {
				return nil
			}
			failed = true
			return errShaky
		})
		if err := sync(); !errors.Is(err, errShaky) || !failed {
			t.Errorf("%s: %v, want %v", name, err, errShaky)
		}
		if u.Size() != 1000 {
			t.Errorf("%s: %d bytes are here, want 1000", name, u.Size())
		}
		u.Release()
		u = r.openUpload(id)
		if err := u.Matches(ctx, d); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("%s: what is here is the blob: %v, want ErrDigest", name, err)
		}
		if got := r.Usage().Partial; got != 1000 {
			t.Errorf("%s: account of partials: %d bytes, want 1000", name, got)
		}
	}
	if _, err := tap.Read(make([]byte, 10)); err == nil {
		t.Error("who follows it reads on")
	}
	closeIt(t, tap)
	send(t, u, body[1000:])
	commit(t, u, d)
	u.Release()
	r.wantServed("what was sent again", d)
	r.wantUsage()
	r.wantNoGarbage()
}

// TestUploadAsked has one caller after another take an upload, and others ask
// for it meanwhile.
func TestUploadAsked(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	u := r.newUpload(digest.SHA256)
	if err := u.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := u.ID()
	u.Release()
	done := make(chan error)
	const callers, times = 4, 50
	for range callers {
		go func() {
			for range times {
				u, err := r.OpenUpload(t.Context(), app, id)
				if err == nil {
					_, err = u.Write(t.Context(), []byte("x"))
				}
				if err == nil {
					err = u.Checkpoint(t.Context())
				}
				if err != nil {
					done <- err
					return
				}
				u.Release()
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if u = r.openUpload(id); u.Size() != callers*times {
		t.Errorf("it has %d bytes, want %d", u.Size(), callers*times)
	}
	u.Release()
}
