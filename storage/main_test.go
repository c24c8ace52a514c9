package storage_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// rig is a store whose background work does not run unless a test has it run,
// over a folder that can be opened again.
type rig struct {
	*storage.Store
	t      *testing.T
	dir    string
	disk   *disk.Disk // without faults
	faults *storagetest.Faults
	meta   *bolt.DB
}

// newRig opens the store in dir, with faults in between if there are any.
func newRig(t *testing.T, dir string, faults *storagetest.Faults, o storage.Options) *rig {
	t.Helper()
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatalf("open rows: %v", err)
	}
	t.Cleanup(func() { _ = meta.Close() }) // again, where reopen closed it
	d, err := disk.NewFS(dir, storagetest.NoSync{})
	if err != nil {
		t.Fatalf("open blobs: %v", err)
	}
	o.Meta = meta
	if o.Blobs == nil {
		o.Blobs = d
	}
	if faults != nil {
		broken, err := disk.NewFS(dir, faults.FS(disk.OS{}))
		if err != nil {
			t.Fatalf("open blobs: %v", err)
		}
		o.Blobs, o.Meta = broken, faults.Meta(meta)
	}
	return &rig{Store: storage.New(o), t: t, dir: dir, disk: d, faults: faults, meta: meta}
}

// reopen is what the next process finds, without any faults.
func (r *rig) reopen(o storage.Options) *rig {
	r.t.Helper()
	if err := r.meta.Close(); err != nil {
		r.t.Fatalf("close rows: %v", err)
	}
	return newRig(r.t, r.dir, nil, o)
}

// put commits body under kind.
func (r *rig) put(body []byte, kind storage.Kind, dur storage.Durability) (digest.Digest, error) {
	d := digest.FromBytes(body)
	w, err := r.Create(r.t.Context())
	if err != nil {
		return d, err
	}
	if _, err = w.Write(body); err == nil {
		err = w.Commit(r.t.Context(), storage.BlobRow{Digest: d, Kind: kind}, dur)
	}
	return d, errors.Join(err, w.Close())
}

func (r *rig) mustPut(body []byte, kind storage.Kind, dur storage.Durability) digest.Digest {
	r.t.Helper()
	d, err := r.put(body, kind, dur)
	if err != nil {
		r.t.Fatalf("put %d bytes: %v", len(body), err)
	}
	return d
}

// read gives the bytes of d as the store serves them.
func (r *rig) read(d digest.Digest) ([]byte, error) {
	b, err := r.Open(r.t.Context(), d)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	return body, errors.Join(err, b.Close())
}

func (r *rig) wantServed(what string, d digest.Digest) {
	r.t.Helper()
	body, err := r.read(d)
	if err != nil {
		r.t.Errorf("%s: %v", what, err)
	} else if d.Algorithm().FromBytes(body) != d {
		r.t.Errorf("%s: %s is served with other bytes", what, d)
	}
}

func (r *rig) wantAbsent(what string, d digest.Digest) {
	r.t.Helper()
	if _, err := r.read(d); !errors.Is(err, storage.ErrNotFound) {
		r.t.Errorf("%s: Open: %v, want ErrNotFound", what, err)
	}
	if _, err := r.Stat(r.t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
		r.t.Errorf("%s: Stat: %v, want ErrNotFound", what, err)
	}
}

// row reads a row past the Store: what a restart would find.
func (r *rig) row(d digest.Digest) (row storage.BlobRow, err error) {
	err = r.meta.View(r.t.Context(), func(tx storage.Tx) (err error) {
		row, err = tx.Blob(d)
		return err
	})
	return row, err
}

func (r *rig) partialRow(d digest.Digest) (row storage.PartialRow, err error) {
	err = r.meta.View(r.t.Context(), func(tx storage.Tx) (err error) {
		row, err = tx.Partial(d)
		return err
	})
	return row, err
}

func (r *rig) uploadRow(id string) (row storage.UploadRow, err error) {
	err = r.meta.View(r.t.Context(), func(tx storage.Tx) (err error) {
		row, err = tx.Upload(id)
		return err
	})
	return row, err
}

func (r *rig) openPartial(d digest.Digest) *storage.Partial {
	r.t.Helper()
	p, err := r.OpenPartial(r.t.Context(), d)
	if err != nil {
		r.t.Fatalf("OpenPartial: %v", err)
	}
	return p
}

// wantSound checks every promise that holds at any time: each row's bytes are
// there and right, and what each partial has of the blob that
// it will be, in contents, is right.
func (r *rig) wantSound(contents map[digest.Digest][]byte) {
	r.t.Helper()
	var rows []storage.BlobRow
	var parts []storage.PartialRow
	err := r.meta.View(r.t.Context(), func(tx storage.Tx) error {
		rows, parts = nil, nil
		err := tx.Blobs(func(row storage.BlobRow) error { rows = append(rows, row); return nil })
		if err != nil {
			return err
		}
		return tx.Partials(func(row storage.PartialRow) error { parts = append(parts, row); return nil })
	})
	if err != nil {
		r.t.Fatalf("read rows: %v", err)
	}
	for _, row := range rows {
		r.wantServed("a blob with a row", row.Digest)
	}
	for _, row := range parts {
		p := r.openPartial(row.Digest)
		for _, have := range p.Have() {
			got := make([]byte, have.Len())
			_, err := p.ReadAt(got, have.Off)
			if want := contents[row.Digest][have.Off:have.End]; !bytes.Equal(got, want) {
				r.t.Errorf("partial %s: bytes %v are wrong (%v)", row.Digest, have, err)
			}
		}
		if err := p.Close(); err != nil {
			r.t.Errorf("Close: %v", err)
		}
	}
}

// wantNoGarbage checks that there is no file without a row and no stale file.
func (r *rig) wantNoGarbage() {
	r.t.Helper()
	err := r.disk.Walk(r.t.Context(), func(d digest.Digest, _ func() (int64, error)) error {
		if _, err := r.row(d); err != nil {
			r.t.Errorf("garbage: blob %v", err)
		}
		return nil
	})
	err = errors.Join(err, r.disk.WalkPartials(r.t.Context(), func(key string, _, _ int64) error {
		_, err := r.partialRow(digest.Digest(key))
		if id, upload := strings.CutPrefix(key, "upload-"); upload {
			_, err = r.uploadRow(id)
		}
		if err != nil {
			r.t.Errorf("garbage: %v", err)
		}
		return nil
	}))
	if err != nil {
		r.t.Errorf("walk: %v", err)
	}
	stale, err := os.ReadDir(filepath.Join(r.dir, "tmp"))
	if err != nil || len(stale) > 0 {
		r.t.Errorf("garbage: %d temporary files, %v", len(stale), err)
	}
}

// wantUsage checks the account against the rows, once nothing is pending.
func (r *rig) wantUsage() {
	r.t.Helper()
	var want storage.Usage
	want.Bytes, want.Blobs = map[storage.Kind]int64{}, map[storage.Kind]int64{}
	err := r.meta.View(r.t.Context(), func(tx storage.Tx) error {
		err := tx.Blobs(func(row storage.BlobRow) error {
			want.Bytes[row.Kind] += row.Size
			want.Blobs[row.Kind]++
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Uploads(func(row storage.UploadRow) error {
			want.Partial += row.Size
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Partials(func(row storage.PartialRow) error {
			for _, have := range row.Have {
				want.Partial += have.Len()
			}
			return nil
		})
	})
	if err != nil {
		r.t.Fatalf("read rows: %v", err)
	}
	got := r.Usage()
	for _, k := range []storage.Kind{storage.KindBlob, storage.KindSpan, storage.KindHosted, storage.KindManifest, storage.KindZTOC, storage.KindIndex} {
		if got.Bytes[k] != want.Bytes[k] || got.Blobs[k] != want.Blobs[k] {
			r.t.Errorf("account of %s: %d bytes in %d blobs, the rows say %d in %d",
				k, got.Bytes[k], got.Blobs[k], want.Bytes[k], want.Blobs[k])
		}
	}
	if got.Partial != want.Partial {
		r.t.Errorf("account of partials: %d bytes, the rows say %d", got.Partial, want.Partial)
	}
}

func ranges(ab ...int64) (rs []oci.Range) {
	for i := 0; i < len(ab); i += 2 {
		rs = append(rs, oci.Range{Off: ab[i], End: ab[i+1]})
	}
	return rs
}

// meter is a file system that counts the bytes in it. It has total bytes, of
// which other programs use others.
type meter struct {
	storagetest.NoSync
	used, most, others atomic.Int64
	total              int64
}

func (m *meter) add(n int) {
	used := m.used.Add(int64(n))
	for most := m.most.Load(); used > most && !m.most.CompareAndSwap(most, used); {
		most = m.most.Load()
	}
}

func (m *meter) Free(string) (free, total int64, err error) {
	return max(0, m.total-m.others.Load()-m.used.Load()), m.total, nil
}

func (m *meter) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := m.NoSync.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &meteredFile{f, m}, nil
}

func (m *meter) Remove(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := m.NoSync.Remove(name); err != nil {
		return err
	}
	m.used.Add(-st.Size())
	return nil
}

// meteredFile counts what is appended, which is all that the tests write.
type meteredFile struct {
	disk.File
	m *meter
}

func (f *meteredFile) Write(p []byte) (int, error) {
	f.m.add(len(p))
	return f.File.Write(p)
}

func (f *meteredFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.add(len(p))
	return f.File.WriteAt(p, off)
}
