package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

func TestCommit(t *testing.T) {
	for _, c := range []struct {
		name string
		dur  storage.Durability
		rows bool // there at once
	}{{"cached", storage.Cached, false}, {"durable", storage.Durable, true}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{Now: atNoon})
			body := storagetest.Bytes("x", 100000)
			want := storage.BlobRow{
				Digest: digest.FromBytes(body), Size: 100000, Kind: storage.KindBlob, Created: noon, Accessed: noon,
			}
			d := r.mustPut(body, storage.KindBlob, c.dur)
			r.wantServed("a committed blob", d)
			got, err := r.Stat(t.Context(), d)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("Stat: %v (-want +got):\n%s", err, diff)
			}
			if _, err := r.row(d); errors.Is(err, storage.ErrNotFound) == c.rows {
				t.Errorf("row after commit: %v, want one %t", err, c.rows)
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			got, err = r.row(d)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("row after Flush: %v (-want +got):\n%s", err, diff)
			}
			r.wantUsage()
			r = r.reopen(storage.Options{})
			r.wantServed("a blob after a restart", d)
		})
	}
}

func TestCommitRefuses(t *testing.T) {
	body := storagetest.Bytes("x", 1000)
	good := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindBlob}
	for _, c := range []struct {
		name   string
		change func(*storage.BlobRow)
		want   error
	}{
		{"other bytes", func(r *storage.BlobRow) { r.Digest = digest.FromString("other") }, storage.ErrDigest},
		{"other size", func(r *storage.BlobRow) { r.Size = 999 }, storage.ErrDigest},
		{"no kind", func(r *storage.BlobRow) { r.Kind = "" }, nil},
		{"no digest", func(r *storage.BlobRow) { r.Digest = "" }, nil},
		{"path for a digest", func(r *storage.BlobRow) { r.Digest = "sha256:../../x" }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			row := good
			c.change(&row)
			w, err := r.Create(t.Context())
			if err != nil {
				t.Fatalf("Create: %v", err)
			}
			if _, err := w.Write(body); err != nil {
				t.Fatalf("Write: %v", err)
			}
			err = w.Commit(t.Context(), row, storage.Durable)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("Commit: %v, want %v", err, c.want)
			}
			if err := w.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := r.Put(t.Context(), row, body[:998], nil); err == nil {
				t.Error("Put of other bytes succeeded")
			}
			r.wantAbsent("what was refused", good.Digest)
			r.wantNoGarbage()
			r.wantUsage()
		})
	}
}

// TestCommitAgain stores the same bytes as two kinds: the one that is worth
// more stays, and so does what it was made of.
func TestCommitAgain(t *testing.T) {
	body := storagetest.Bytes("x", 1000)
	d, of := digest.FromBytes(body), digest.FromString("of")
	index := storage.BlobRow{Digest: d, Kind: storage.KindIndex, Of: of}
	blob := storage.BlobRow{Digest: d, Kind: storage.KindBlob}
	for _, firstDur := range []storage.Durability{storage.Cached, storage.Durable} {
		for _, secondDur := range []storage.Durability{storage.Cached, storage.Durable} {
			for _, rows := range [][]storage.BlobRow{{index, blob}, {blob, index}} {
				t.Run(fmt.Sprintf("%s %d, %s %d", rows[0].Kind, firstDur, rows[1].Kind, secondDur), func(t *testing.T) {
					r := newRig(t, t.TempDir(), nil, storage.Options{})
					for i, dur := range []storage.Durability{firstDur, secondDur} {
						w, err := r.Create(t.Context())
						if err != nil {
							t.Fatalf("Create: %v", err)
						}
						if _, err := w.Write(body); err != nil {
							t.Fatalf("Write: %v", err)
						}
						if err := errors.Join(w.Commit(t.Context(), rows[i], dur), w.Close()); err != nil {
							t.Fatalf("Commit %d: %v", i, err)
						}
					}
					got, err := r.Stat(t.Context(), d)
					if err != nil || got.Kind != storage.KindIndex || got.Of != of {
						t.Errorf("Stat: %+v, %v, want the index of %s", got, err, of)
					}
					if err := r.Flush(t.Context()); err != nil {
						t.Errorf("Flush: %v", err)
					}
					got, err = r.row(d)
					if err != nil || got.Kind != storage.KindIndex || got.Of != of {
						t.Errorf("row: %+v, %v, want the index of %s", got, err, of)
					}
					r.wantServed("what came twice", d)
					r.wantUsage()
					r.wantNoGarbage()
				})
			}
		}
	}
}

// TestCommitOverGarbage has bytes of a crashed process where a blob belongs.
func TestCommitOverGarbage(t *testing.T) {
	body := storagetest.Bytes("x", 1000)
	d := digest.FromBytes(body)
	ways := map[string]func(*rig) error{
		"cached":  func(r *rig) error { _, err := r.put(body, storage.KindBlob, storage.Cached); return err },
		"durable": func(r *rig) error { _, err := r.put(body, storage.KindBlob, storage.Durable); return err },
		"put": func(r *rig) error {
			return r.Put(r.t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindManifest}, body, nil)
		},
		"promoted": func(r *rig) error {
			p := r.openPartial(d)
			if _, err := p.WriteAt(body, 0); err != nil {
				return err
			}
			return errors.Join(p.Promote(r.t.Context(), storage.KindBlob, 1000), p.Close())
		},
	}
	for name, way := range ways {
		for _, bytes := range [][]byte{{}, make([]byte, 1000), make([]byte, 2000)} {
			t.Run(fmt.Sprintf("%s over %d", name, len(bytes)), func(t *testing.T) {
				r := newRig(t, t.TempDir(), nil, storage.Options{})
				file := filepath.Join(r.dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, bytes, 0o600); err != nil {
					t.Fatal(err)
				}
				r.wantAbsent("garbage", d)
				if err := way(r); err != nil {
					t.Fatalf("commit: %v", err)
				}
				r.wantServed("a blob over garbage", d)
				if err := r.Flush(t.Context()); err != nil {
					t.Errorf("Flush: %v", err)
				}
				r.wantServed("a blob over garbage, filed", d)
				r.wantUsage()
			})
		}
	}
}

// TestDamaged has rows whose bytes are gone or cut: found on opening, forgotten,
// and stored anew like any other.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"gone": os.Remove,
		"cut":  func(file string) error { return errors.Join(os.Chmod(file, 0o600), os.Truncate(file, 999)) },
	} {
		for _, dur := range []storage.Durability{storage.Cached, storage.Durable} {
			for _, how := range []string{"open", "commit"} {
				t.Run(fmt.Sprintf("%s %d %s", name, dur, how), func(t *testing.T) {
					r := newRig(t, t.TempDir(), nil, storage.Options{})
					body := storagetest.Bytes("x", 1000)
					d := r.mustPut(body, storage.KindBlob, dur)
					if err := damage(filepath.Join(r.dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())); err != nil {
						t.Fatal(err)
					}
					if how == "open" {
						if _, err := r.read(d); !errors.Is(err, storage.ErrNotFound) {
							t.Errorf("Open: %v, want ErrNotFound", err)
						}
						r.wantAbsent("a damaged blob", d)
						r.wantUsage()
					}
					r.mustPut(body, storage.KindBlob, dur)
					r.wantServed("a blob over a damaged one", d)
					if err := r.Flush(t.Context()); err != nil {
						t.Errorf("Flush: %v", err)
					}
					r.wantUsage()
				})
			}
		}
	}
}

func TestPutMore(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	body := storagetest.Bytes("x", 1000)
	row := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindManifest}
	no := errors.New("no")
	err := r.Put(t.Context(), row, body, func(tx storage.Tx) error {
		if err := tx.PutManifest(storage.ManifestRow{Digest: row.Digest}); err != nil {
			return err
		}
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("Put: %v, want more's error", err)
	}
	r.wantAbsent("a blob whose rows failed", row.Digest)
	r.wantNoGarbage()
	r.wantUsage()
	for _, size := range []int64{1000, 1001} { // the second time the blob is there
		err := r.Put(t.Context(), row, body, func(tx storage.Tx) error {
			if _, err := tx.Blob(row.Digest); err != nil {
				return err
			}
			return tx.PutManifest(storage.ManifestRow{Digest: row.Digest, Size: size})
		})
		if err != nil {
			t.Errorf("Put: %v", err)
		}
		err = r.View(t.Context(), func(tx storage.Tx) error {
			m, err := tx.Manifest(row.Digest)
			if m.Size != size {
				t.Errorf("more's row has size %d, want %d", m.Size, size)
			}
			return err
		})
		if err != nil {
			t.Errorf("View: %v", err)
		}
	}
	r.wantServed("what was put", row.Digest)
	r.wantUsage()
}

func TestPurge(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	body := storagetest.Bytes("x", 1000)
	for _, dur := range []storage.Durability{storage.Cached, storage.Durable} {
		d := r.mustPut(body, storage.KindIndex, dur)
		open, err := r.Open(t.Context(), d)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		for _, want := range []int64{1000, 0} {
			if freed, err := r.Purge(t.Context(), d); freed != want || err != nil {
				t.Errorf("Purge: %d, %v, want %d", freed, err, want)
			}
			r.wantAbsent("a purged blob", d)
		}
		if err := r.Flush(t.Context()); err != nil { // what was pending does not come back
			t.Errorf("Flush: %v", err)
		}
		r.wantAbsent("a purged blob", d)
		got := make([]byte, 1000)
		if n, err := open.ReadAt(got, 0); n != 1000 || digest.FromBytes(got) != d {
			t.Errorf("who had it open reads %d bytes, %v, or others", n, err)
		}
		for range 2 { // closing twice is harmless
			if err := open.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		r.wantUsage()
		r.wantNoGarbage()
	}
}

// TestCrowd has many callers come, read and go at the same few blobs.
func TestCrowd(t *testing.T) {
	dir := t.TempDir()
	s, stop := storagetest.Open(t, dir, storage.Options{})
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			r := &rig{Store: s, t: t}
			for j := range 30 {
				body := storagetest.Bytes(fmt.Sprint(j%3), 5000)
				d := digest.FromBytes(body)
				if _, err := r.put(body, storage.KindBlob, storage.Durability((i+j)%2)); err != nil {
					t.Errorf("put: %v", err)
				}
				if got, err := r.read(d); err == nil && digest.FromBytes(got) != d {
					t.Error("other bytes are served")
				} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("read: %v", err)
				}
				if (i+j)%5 == 0 {
					if _, err := s.Purge(t.Context(), d); err != nil {
						t.Errorf("Purge: %v", err)
					}
				}
			}
		})
	}
	work.Wait()
	usage := s.Usage()
	stop()
	r := newRig(t, dir, nil, storage.Options{})
	r.wantSound(nil)
	r.wantNoGarbage()
	r.mustPut(nil, storage.KindManifest, storage.Durable) // has it count
	if got := r.Usage().Total(); got != usage.Total() {
		t.Errorf("the account was %d bytes, the next process counts %d", usage.Total(), got)
	}
}
