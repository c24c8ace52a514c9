package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestOpenUploads counts the uploads of each caller and their bytes, over a
// restart too.
func TestOpenUploads(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	begin := func(by string) (*storage.Upload, error) {
		return r.NewUploadBy(t.Context(), by, 2, app, digest.SHA256)
	}
	mustBegin := func(by string) *storage.Upload {
		t.Helper()
		u, err := begin(by)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	refused := func(what string) {
		t.Helper()
		if u, err := begin("a"); !errors.Is(err, storage.ErrTooMany) {
			t.Errorf("%s: %v, %v, want ErrTooMany", what, u, err)
		}
	}
	want := func(what string, n int64) {
		t.Helper()
		if got := r.OpenCount(app.Upstream).Bytes(); got != n {
			t.Errorf("%s: %d bytes are open, want %d", what, got, n)
		}
	}
	first, second := mustBegin("a"), mustBegin("a")
	refused("a third")
	send(t, first, []byte("12345"))
	send(t, second, []byte("678"))
	want("both", 8)
	same, longer := mustBegin("b"), mustBegin("b")
	d := digest.FromString("same")
	same.Expect(d)
	send(t, same, []byte("123"))
	send(t, longer, []byte("1234"))
	want("two of which one says what it is to become", 15)
	longer.Expect(d)
	want("two that are to become the same", 12)
	send(t, same, []byte("45"))
	want("the other is the larger", 13)
	if err := same.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	same.Expect(digest.FromString("other"))
	want("one is to become something else", 17)
	same.Expect(d)
	want("the same again", 13)
	same.Release()
	want("nobody goes on with one", 17)
	if err := same.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("that is cancelled", 12)
	longer.Release() // nobody was told of it
	want("so is the other", 8)
	for _, u := range []*storage.Upload{first, second} {
		if err := u.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send(t, second, []byte("lost"))
	want("what is not acknowledged", 12)

	ids := []string{first.ID(), second.ID()}
	r = r.reopen(storage.Options{})
	first, second = r.openUpload(ids[0]), r.openUpload(ids[1])
	want("after a restart", 8)
	refused("a third, after a restart")
	commit(t, first, digest.FromString("12345"))
	first.Release()
	want("one is a blob", 3)
	third := mustBegin("a")
	if err := second.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.Release()
	third.Release() // nobody was told of it
	want("none is left", 0)
	for range 2 {
		mustBegin("a")
	}
	refused("at last")
}
