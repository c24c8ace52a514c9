package storage_test

import (
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestRefuse: an upload that is refused is where it was, takes no more room, and
// goes on from there.
func TestRefuse(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	for _, begun := range []string{"", "12345"} {
		u := r.newUpload(digest.SHA256)
		send(t, u, []byte(begun))
		if err := u.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		u.OnMatch(func(digest.Digest) { t.Error("who followed it hears of its end") })
		rc, err := u.Follow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		send(t, u, []byte("for which there is no room"))
		if err := u.Refuse(t.Context()); err != nil {
			t.Fatalf("Refuse: %v", err)
		}
		if _, err := io.ReadAll(rc); err == nil {
			t.Error("who follows it comes to a clean end")
		}
		_ = rc.Close()
		n := int64(len(begun))
		if u.Size() != n || r.OpenCount(app.Upstream).Bytes() != n || r.Usage().Partial != n {
			t.Errorf("it has %d bytes, %d count, %d are in the account, want %d", u.Size(), r.OpenCount(app.Upstream).Bytes(), r.Usage().Partial, n)
		}
		if u.Watched() {
			t.Error("it is not followed anew")
		}
		u.Release()
		u = r.openUpload(u.ID())
		send(t, u, []byte("678"))
		d := digest.FromString(begun + "678")
		commit(t, u, d)
		u.Release()
		r.wantServed("what went on", d)
		r.wantUsage()
	}
}

// TestRefusedMakeRoom: of uploads that were refused, and that nobody has gone on
// with, the younger ones make room for an older one, the last first.
func TestRefusedMakeRoom(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	var all []*storage.Upload
	for range 5 {
		u := r.newUpload(digest.SHA256)
		send(t, u, []byte("12345"))
		if err := u.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	refuse := func(u *storage.Upload) {
		t.Helper()
		if err := u.Refuse(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	second := all[1]
	if second.GoesFirst() || !all[0].GoesFirst() {
		t.Error("another one than the oldest goes first")
	}
	for _, i := range []int{0, 2, 3, 4} {
		refuse(all[i])
	}
	send(t, all[2], []byte("6")) // it goes on
	for _, i := range []int{0, 2, 3} {
		all[i].Release()
	}
	if !second.GoesFirst() {
		t.Error("it is the oldest that is sent, and does not go first")
	}
	end := func(want bool) {
		t.Helper()
		if got, err := second.EndYounger(t.Context()); got != want || err != nil {
			t.Errorf("EndYounger: %v, %v, want %v", got, err, want)
		}
	}
	gone := func(i int, want bool) {
		t.Helper()
		u, err := r.OpenUpload(t.Context(), app, all[i].ID())
		if errors.Is(err, storage.ErrNotFound) != want {
			t.Errorf("upload %d: %v, gone is to be %v", i, err, want)
		}
		if err == nil {
			u.Release()
		}
	}
	end(true)
	gone(3, true)
	end(false) // a request has the last
	all[4].Release()
	end(true)
	gone(4, true)
	end(false)
	gone(2, false)
	gone(0, false)
	if second.GoesFirst() {
		t.Error("it goes first where nothing else is sent")
	}
	second.Release()
}

// TestEndRefused ends what one client was refused, the oldest first.
func TestEndRefused(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	var ids []string
	for _, by := range []string{"b", "a", "a", "a"} {
		u, err := r.NewUploadBy(t.Context(), by, 0, app, digest.SHA256)
		if err == nil {
			err = u.Checkpoint(t.Context())
		}
		if err == nil && len(ids) != 2 {
			err = u.Refuse(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		u.Release()
		ids = append(ids, u.ID())
	}
	for i, want := range []bool{true, true, false} {
		if got, err := r.EndRefused(t.Context(), "a"); got != want || err != nil {
			t.Errorf("%d: %v, %v, want %v", i, got, err, want)
		}
	}
	for i, there := range []bool{true, false, true, false} {
		u, err := r.OpenUpload(t.Context(), app, ids[i])
		if (err == nil) != there {
			t.Errorf("upload %d: %v, want it there: %v", i, err, there)
		}
		if err == nil {
			u.Release()
		}
	}
}
