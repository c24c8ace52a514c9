package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// Blobs runs the contract of storage.Blobs. newBlobs gives an empty one, and
// cleans up after itself when t ends.
func Blobs(t *testing.T, newBlobs func(t *testing.T) storage.Blobs) {
	for name, test := range map[string]func(*testing.T, storage.Blobs){
		"commit":            blobsCommit,
		"commit sha512":     blobsCommitSHA512,
		"commit mismatch":   blobsMismatch,
		"commit twice":      blobsCommitTwice,
		"close uncommitted": blobsUncommitted,
		"remove":            blobsRemove,
		"sync":              blobsSync,
		"walk":              blobsWalk,
		"quarantine":        blobsQuarantine,
		"bad names":         blobsBadNames,
		"partial":           blobsPartial,
		"partial commit":    blobsPartialCommit,
		"partial short":     blobsPartialShort,
		"reclaim":           blobsReclaim,
		"partial remove":    blobsPartialRemove,
		"concurrent":        blobsConcurrent,
		"ended context":     blobsEnded,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBlobs(t)) })
	}
}

// Bytes gives n bytes that differ with seed.
func Bytes(seed string, n int) []byte {
	var out bytes.Buffer
	for i := 0; out.Len() < n; i++ {
		fmt.Fprintf(&out, "%s %d\n", seed, i)
	}
	return out.Bytes()[:n]
}

func commit(t *testing.T, b storage.Blobs, body []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(body)
	commitAs(t, b, body, d)
	return d
}

func commitAs(t *testing.T, b storage.Blobs, body []byte, d digest.Digest) {
	t.Helper()
	w, err := b.Create(t.Context())
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	half := len(body) / 2
	for _, p := range [][]byte{body[:half], body[half:]} {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if err := w.Commit(t.Context(), d); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("Close after Commit: %v", err)
	}
}

// wantBytes reads the blob in every way that it offers.
func wantBytes(t *testing.T, b storage.Blob, want []byte) {
	t.Helper()
	if b.Size() != int64(len(want)) {
		t.Errorf("Size is %d, want %d", b.Size(), len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()+1))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAt gave %d bytes (%v), want %d, or they differ", len(got), err, len(want))
	}
	f := b.File()
	if f == nil {
		return
	}
	if got, err = io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("File gave %d bytes (%v), want %d, or they differ", len(got), err, len(want))
	}
}

func wantBlob(t *testing.T, s storage.Blobs, d digest.Digest, want []byte) {
	t.Helper()
	b, err := s.Open(t.Context(), d)
	if err != nil {
		t.Errorf("Open %s: %v", d, err)
		return
	}
	wantBytes(t, b, want)
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func wantAbsent(t *testing.T, s storage.Blobs, d digest.Digest) {
	t.Helper()
	b, err := s.Open(t.Context(), d)
	if !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Open %s: %v, want ErrNotFound", d, err)
	}
	if err == nil {
		_ = b.Close()
	}
}

func blobsCommit(t *testing.T, s storage.Blobs) {
	for _, n := range []int{0, 1, 4096, 1 << 20} {
		body := Bytes("commit", n)
		d := digest.FromBytes(body)
		wantAbsent(t, s, d)
		commit(t, s, body)
		wantBlob(t, s, d, body)
	}
}

func blobsCommitSHA512(t *testing.T, s storage.Blobs) {
	body := Bytes("sha512", 600<<10)
	d := digest.SHA512.FromBytes(body)
	commitAs(t, s, body, d)
	wantBlob(t, s, d, body)
	wantAbsent(t, s, digest.FromBytes(body))
}

func blobsMismatch(t *testing.T, s storage.Blobs) {
	body := Bytes("right", 5000)
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		w, err := s.Create(t.Context())
		if err != nil {
			t.Fatalf("Create: %v", err)
		}
		if _, err := w.Write(append(bytes.Clone(body), 'x')); err != nil {
			t.Fatalf("Write: %v", err)
		}
		d := a.FromBytes(body)
		if err := w.Commit(t.Context(), d); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("Commit of other bytes: %v, want ErrDigest", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wantAbsent(t, s, d)
	}
}

func blobsCommitTwice(t *testing.T, s storage.Blobs) {
	body := Bytes("twice", 70000)
	d := commit(t, s, body)
	open, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	commit(t, s, body)
	wantBytes(t, open, body)
	wantBlob(t, s, d, body)
	if err := open.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if err := w.Commit(t.Context(), d); !errors.Is(err, storage.ErrDigest) {
		t.Errorf("Commit of other bytes over a blob: %v, want ErrDigest", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantBlob(t, s, d, body)
}

func blobsUncommitted(t *testing.T, s storage.Blobs) {
	body := Bytes("uncommitted", 5000)
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatalf("Write: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantAbsent(t, s, digest.FromBytes(body))
	if err := w.Commit(t.Context(), digest.FromBytes(body)); err == nil {
		t.Error("Commit after Close succeeded")
	}
	if _, err := w.Write(body); err == nil {
		t.Error("Write after Close succeeded")
	}
	wantWalk(t, s, map[digest.Digest]int64{})
}

func blobsRemove(t *testing.T, s storage.Blobs) {
	body := Bytes("remove", 5000)
	d := commit(t, s, body)
	open, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	for range 2 { // the second time there is nothing: success
		if err := s.Remove(t.Context(), d); err != nil {
			t.Errorf("Remove: %v", err)
		}
		wantAbsent(t, s, d)
	}
	wantBytes(t, open, body)
	if err := open.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	commit(t, s, body)
	wantBlob(t, s, d, body)
}

func blobsSync(t *testing.T, s storage.Blobs) {
	if err := s.Sync(t.Context()); err != nil {
		t.Errorf("Sync of nothing: %v", err)
	}
	a, b, c := commit(t, s, Bytes("a", 1)), commit(t, s, Bytes("b", 1)), commit(t, s, Bytes("c", 1))
	if err := s.Sync(t.Context(), a, b, c); err != nil {
		t.Errorf("Sync: %v", err)
	}
	if err := s.Remove(t.Context(), b); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	err := s.Sync(t.Context(), a, b, c)
	var failed *storage.SyncError
	if !errors.As(err, &failed) {
		t.Fatalf("Sync of a removed blob: %v, want a SyncError", err)
	}
	if len(failed.Errs) != 1 || !errors.Is(failed.Errs[b], storage.ErrNotFound) {
		t.Errorf("Sync of a removed blob: %v, want ErrNotFound for that one alone", failed.Errs)
	}
}

func wantWalk(t *testing.T, s storage.Blobs, want map[digest.Digest]int64) {
	t.Helper()
	got := map[digest.Digest]int64{}
	err := s.Walk(t.Context(), func(d digest.Digest, size func() (int64, error)) (err error) {
		got[d], err = size()
		return err
	})
	if err != nil {
		t.Errorf("Walk: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Walk (-want +got):\n%s", diff)
	}
}

func blobsWalk(t *testing.T, s storage.Blobs) {
	want := map[digest.Digest]int64{}
	wantWalk(t, s, want)
	for i := range 20 {
		want[commit(t, s, Bytes(fmt.Sprint(i), i))] = int64(i)
	}
	body := Bytes("other", 10)
	commitAs(t, s, body, digest.SHA512.FromBytes(body))
	want[digest.SHA512.FromBytes(body)] = 10
	wantWalk(t, s, want)
	stop := errors.New("stop")
	n := 0
	err := s.Walk(t.Context(), func(digest.Digest, func() (int64, error)) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("Walk went on after an error: %v, %d calls", err, n)
	}
}

// badNames would all lead somewhere else if they became part of a path.
var badNames = []string{
	"", ".", "..", "/", "a/b", "../a", "..\\a", "/etc/passwd", "a\x00b", "a b", "é", ".hidden",
	strings.Repeat("a", 300),
}

func blobsBadNames(t *testing.T, s storage.Blobs) {
	ctx := t.Context()
	good := digest.FromString("x")
	ds := []digest.Digest{
		"", ":", "sha256", "sha256:", "sha256:../../../../etc/passwd", "sha256:" + digest.Digest(strings.Repeat("../", 21)) + "x",
		"sha256:" + digest.Digest(strings.ToUpper(good.Encoded())), good[:len(good)-1], good + "0",
		"md5:" + digest.Digest(strings.Repeat("a", 32)), "sha384:" + digest.Digest(strings.Repeat("a", 96)),
		"sha512:" + digest.Digest(good.Encoded()), "../sha256:" + digest.Digest(good.Encoded()),
	}
	for _, d := range ds {
		if b, err := s.Open(ctx, d); err == nil {
			_ = b.Close()
			t.Errorf("Open %q succeeded", d)
		}
		if err := s.Remove(ctx, d); err == nil {
			t.Errorf("Remove %q succeeded", d)
		}
		if err := s.Sync(ctx, d); err == nil {
			t.Errorf("Sync %q succeeded", d)
		}
		w, err := s.Create(ctx)
		if err != nil {
			t.Fatalf("Create: %v", err)
		}
		if err := w.Commit(ctx, d); err == nil {
			t.Errorf("Commit %q succeeded", d)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for _, key := range badNames {
		if p, err := s.OpenPartial(ctx, key); err == nil {
			_ = p.Close()
			t.Errorf("OpenPartial %q succeeded", key)
		}
	}
	wantWalk(t, s, map[digest.Digest]int64{})
	wantPartials(t, s, map[string]int64{})
}

func blobsConcurrent(t *testing.T, s storage.Blobs) {
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for j := range 10 {
				body := Bytes(fmt.Sprintf("%d %d", i, j), 3000)
				d := digest.FromBytes(body)
				p, err := s.OpenPartial(t.Context(), d.String())
				if err != nil {
					t.Errorf("OpenPartial: %v", err)
					return
				}
				if _, err := p.WriteAt(body, 0); err != nil {
					t.Errorf("WriteAt: %v", err)
				}
				if err := p.Commit(t.Context(), d, 3000); err != nil {
					t.Errorf("Commit: %v", err)
				}
				closeIt(t, p)
				if err := s.Sync(t.Context(), d); err != nil {
					t.Errorf("Sync: %v", err)
				}
				wantBlob(t, s, d, body)
				if err := s.Remove(t.Context(), d); err != nil {
					t.Errorf("Remove: %v", err)
				}
			}
		})
	}
	work.Wait()
	wantWalk(t, s, map[digest.Digest]int64{})
}

func blobsEnded(t *testing.T, s storage.Blobs) {
	body := Bytes("ended", 10)
	d := commit(t, s, body)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for name, call := range map[string]func() error{
		"Open":         func() error { _, err := s.Open(ctx, d); return err },
		"Create":       func() error { _, err := s.Create(ctx); return err },
		"Sync":         func() error { return s.Sync(ctx, d) },
		"Remove":       func() error { return s.Remove(ctx, d) },
		"OpenPartial":  func() error { _, err := s.OpenPartial(ctx, "k"); return err },
		"Walk":         func() error { return s.Walk(ctx, func(digest.Digest, func() (int64, error)) error { return nil }) },
		"WalkPartials": func() error { return s.WalkPartials(ctx, func(string, int64, int64) error { return nil }) },
		"Free":         func() error { _, _, err := s.Free(ctx); return err },
	} {
		if err := call(); !errors.Is(err, why) {
			t.Errorf("%s with an ended context: %v, want its cause", name, err)
		}
	}
	wantBlob(t, s, d, body)
}
