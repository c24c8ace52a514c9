package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	storagetest.Blobs(t, func(t *testing.T) storage.Blobs {
		d, err := disk.New(filepath.Join(t.TempDir(), "not", "there", "yet"))
		if err != nil {
			t.Fatalf("New: %v", err)
		}
		return d
	})
}

// recorder notes the calls that matter for durability, in their order.
type recorder struct {
	storagetest.NoSync
	root string

	mu    sync.Mutex
	calls []string
}

func (r *recorder) note(call, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call+" "+strings.TrimPrefix(name, r.root+"/"))
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func (r *recorder) Rename(from, to string) error {
	r.note("rename", to)
	return r.NoSync.Rename(from, to)
}

func (r *recorder) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := r.NoSync.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &recordedFile{f, r, name}, nil
}

type recordedFile struct {
	disk.File
	r    *recorder
	name string
}

func (f *recordedFile) Sync() error {
	f.r.note("sync", f.name)
	return f.File.Sync()
}

func write(t *testing.T, d *disk.Disk, body string) digest.Digest {
	t.Helper()
	w, err := d.Create(t.Context())
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatalf("Write: %v", err)
	}
	dgst := digest.FromString(body)
	if err := errors.Join(w.Commit(t.Context(), dgst), w.Close()); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return dgst
}

// TestSyncOrder has Commit sync nothing, and Sync every file and then every
// folder once: the folder above only where this process saw no sync of it.
func TestSyncOrder(t *testing.T) {
	rec := &recorder{root: t.TempDir()}
	d, err := disk.NewFS(rec.root, rec)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	rec.take()
	a := write(t, d, "a")
	file := "blobs/sha256/" + a.Encoded()[:2] + "/" + a.Encoded()
	// A first attempt finds that the folder is missing.
	if diff := cmp.Diff([]string{"rename " + file, "rename " + file}, rec.take()); diff != "" {
		t.Errorf("Commit (-want +got):\n%s", diff)
	}
	folder := filepath.Dir(file)
	for i, want := range [][]string{
		{"sync " + file, "sync " + folder, "sync blobs/sha256"},
		{"sync " + file, "sync " + folder},
	} {
		if err := d.Sync(t.Context(), a, a); err != nil {
			t.Errorf("Sync: %v", err)
		}
		if diff := cmp.Diff(want, slices.Compact(rec.take())); diff != "" {
			t.Errorf("Sync, time %d (-want +got):\n%s", i, diff)
		}
	}
	p, err := d.OpenPartial(t.Context(), "key")
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	for i, want := range [][]string{{"sync partial/key", "sync partial"}, {"sync partial/key"}} {
		if err := p.Sync(); err != nil {
			t.Errorf("Sync of a partial: %v", err)
		}
		if diff := cmp.Diff(want, rec.take()); diff != "" {
			t.Errorf("Sync of a partial, time %d (-want +got):\n%s", i, diff)
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestModes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	d, err := disk.New(root)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	write(t, d, "a")
	if _, err := d.Create(t.Context()); err != nil { // stays open
		t.Fatalf("Create: %v", err)
	}
	for _, key := range []string{"open", "committed"} {
		p, err := d.OpenPartial(t.Context(), key)
		if err != nil {
			t.Fatalf("OpenPartial: %v", err)
		}
		if _, err := p.WriteAt([]byte("b"), 0); err != nil {
			t.Fatalf("WriteAt: %v", err)
		}
		if key == "committed" {
			err = p.Commit(t.Context(), digest.FromString("b"), 1)
		}
		if err := errors.Join(err, p.Close()); err != nil {
			t.Fatalf("Commit: %v", err)
		}
	}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		switch {
		case e.IsDir():
			want = 0o700
		case strings.Contains(path, "/blobs/"):
			want = 0o400
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, st.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Errorf("walk: %v", err)
	}
}

func TestNewRemovesStale(t *testing.T) {
	root := t.TempDir()
	d, err := disk.New(root)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	blob := write(t, d, "a")
	if _, err := d.Create(t.Context()); err != nil { // a crash leaves it
		t.Fatalf("Create: %v", err)
	}
	p, err := d.OpenPartial(t.Context(), "key")
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if d, err = disk.New(root); err != nil {
		t.Fatalf("New: %v", err)
	}
	for folder, want := range map[string]int{"tmp": 0, "partial": 1} {
		if got, err := os.ReadDir(filepath.Join(root, folder)); err != nil || len(got) != want {
			t.Errorf("%s has %d files, %v, want %d", folder, len(got), err, want)
		}
	}
	b, err := d.Open(t.Context(), blob)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestWalkForeign has files that are none of ours.
func TestWalkForeign(t *testing.T) {
	root := t.TempDir()
	d, err := disk.New(root)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	dgst := digest.FromString("a")
	other := digest.FromString("b")
	for _, name := range []string{
		"blobs/sha256/x", "blobs/sha256/zz/" + dgst.Encoded(), "blobs/sha256/" + dgst.Encoded()[:2] + "/.nfs123",
		"blobs/sha512/aa/" + other.Encoded(), "blobs/sha256/" + other.Encoded()[:2] + "/dir/x", "partial/.hidden", "partial/dir/x",
	} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if has, err := disk.HasBlobs(t.Context(), root); has || err != nil {
		t.Errorf("HasBlobs: %v, %v, want none of ours", has, err)
	}
	if write(t, d, "a") != dgst {
		t.Fatal("another digest")
	}
	if has, err := disk.HasBlobs(t.Context(), root); !has || err != nil {
		t.Errorf("HasBlobs: %v, %v, want one", has, err)
	}
	var got []digest.Digest
	err = d.Walk(t.Context(), func(d digest.Digest, _ func() (int64, error)) error { got = append(got, d); return nil })
	if diff := cmp.Diff([]digest.Digest{dgst}, got); err != nil || diff != "" {
		t.Errorf("Walk: %v (-want +got):\n%s", err, diff)
	}
	err = d.WalkPartials(t.Context(), func(key string, _, _ int64) error { t.Errorf("partial %q", key); return nil })
	if err != nil {
		t.Errorf("WalkPartials: %v", err)
	}
}

// TestPartialLost has a sync of a partial fail once: what the kernel could not
// write is forgotten there, so no later sync may count.
func TestPartialLost(t *testing.T) {
	root := t.TempDir()
	faults := storagetest.NewFaults(root)
	d, err := disk.NewFS(root, faults.FS(disk.OS{}))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	p, err := d.OpenPartial(t.Context(), "key")
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	if _, err := p.WriteAt([]byte("b"), 0); err != nil {
		t.Fatalf("WriteAt: %v", err)
	}
	faults.Hook(func(s storagetest.Step) error {
		if s.Op == "sync" {
			return syscall.EIO
		}
		return nil
	})
	if err := p.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync: %v, want EIO", err)
	}
	faults.Hook(nil)
	if err := p.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync again: %v, want EIO for good", err)
	}
	if err := p.Commit(t.Context(), digest.FromString("b"), 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("Commit: %v, want EIO", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestNewFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := disk.New(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("New(%s): %v, want an error that names it", dir, err)
		}
	}
}

func TestFree(t *testing.T) {
	d, err := disk.New(t.TempDir())
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	free, total, err := d.Free(t.Context())
	if err != nil || free <= 0 || total < free {
		t.Errorf("Free: %d of %d, %v", free, total, err)
	}
}
