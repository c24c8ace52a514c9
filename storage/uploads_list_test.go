package storage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestListUploads: open uploads are listed, over a restart too, and can be ended by
// whoever operates the store.
func TestListUploads(t *testing.T) {
	now := time.Unix(1e9, 0).UTC()
	o := storage.Options{Now: func() time.Time { return now }}
	r := newRig(t, t.TempDir(), nil, o)
	begin := func(by, body string) *storage.Upload {
		t.Helper()
		u, err := r.NewUploadBy(t.Context(), by, 0, app, digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		send(t, u, []byte(body))
		return u
	}
	list := func(what string, want ...storage.UploadInfo) {
		t.Helper()
		got, err := r.OpenUploads(t.Context())
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %+v, %v, want %+v", what, got, err, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %+v, want %+v", what, got[i], want[i])
			}
		}
	}
	list("nothing is pushed")
	first := begin("user alice", "12345")
	one := storage.UploadInfo{ID: first.ID(), Repository: app.String(), Caller: "user alice", Started: now, Touched: now, Bytes: 5, Busy: true}
	list("a request has it", one)
	now = now.Add(time.Hour)
	if err := first.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.Touched = now
	second := begin("", "678")
	two := storage.UploadInfo{ID: second.ID(), Repository: app.String(), Started: now, Touched: now, Bytes: 3, Busy: true}
	list("both", one, two)

	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.CancelUpload(soon, first.ID()); !errors.Is(err, storage.ErrBusy) || !strings.Contains(err.Error(), "stop its client") {
		t.Errorf("cancelled under a request: %v, want ErrBusy, and what to do", err)
	}
	first.Release()
	one.Busy = false
	r = r.reopen(o) // the second was never acknowledged
	list("after a restart", one)
	if got, err := r.CancelUpload(t.Context(), one.ID); err != nil || got != one {
		t.Errorf("cancelled: %+v, %v, want %+v", got, err, one)
	}
	list("none is left")
	for _, id := range []string{one.ID, two.ID, "none", ""} {
		if _, err := r.CancelUpload(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", id, err)
		}
	}
	if got := r.Usage().Partial; got != 0 {
		t.Errorf("%d bytes of partials are left", got)
	}
	err := r.disk.WalkPartials(t.Context(), func(key string, _, _ int64) error {
		if strings.Contains(key, one.ID) { // the other's file is swept
			t.Errorf("partial %s stays", key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNamespaceUse: what a quota is compared with is what is told.
func TestNamespaceUse(t *testing.T) {
	o := storage.Options{}
	r := newRig(t, t.TempDir(), nil, o)
	use := func(what string, content, open int64, used float64) {
		t.Helper()
		got, err := r.NamespaceUse(t.Context(), app.Upstream, 100)
		want := storage.NamespaceUse{Name: app.Upstream, Bytes: content, UploadBytes: open, Quota: 100}
		if err != nil || got != want || got.Used() != used {
			t.Errorf("%s: %+v, %v, %g used, want %+v, %g", what, got, err, got.Used(), want, used)
		}
	}
	use("empty", 0, 0, 0)
	if names, err := r.ContentNamespaces(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("namespaces with something: %v, %v", names, err)
	}
	d := digest.FromString("twice")
	put := func(repos ...oci.Repo) {
		t.Helper()
		err := r.Update(t.Context(), func(tx storage.Tx) error {
			for _, repo := range repos {
				if err := tx.PutContent(storage.ContentRow{Repo: repo, Digest: d, Size: 60}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(app, oci.Repo{Upstream: app.Upstream, Name: "other"}, oci.Repo{Upstream: "team", Name: "app"})
	use("each digest once", 60, 0, 0.6)
	u := r.newUpload(digest.SHA256)
	send(t, u, make([]byte, 15))
	use("with an upload", 60, 15, 0.75)
	u.Expect(d)
	use("that repeats what is there", 60, 0, 0.6)
	u.Release()
	if names, err := r.ContentNamespaces(t.Context()); err != nil || len(names) != 2 || names[0] != app.Upstream || names[1] != "team" {
		t.Errorf("namespaces with something: %v, %v", names, err)
	}
	r = r.reopen(o)
	use("after a restart", 60, 0, 0.6)
	if got := (storage.NamespaceUse{Bytes: 5}).Used(); got != 0 {
		t.Errorf("without a quota %g is used", got)
	}
}
