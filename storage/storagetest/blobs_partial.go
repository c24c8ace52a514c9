package storagetest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func wantPartials(t *testing.T, s storage.Blobs, want map[string]int64) {
	t.Helper()
	got := map[string]int64{}
	err := s.WalkPartials(t.Context(), func(key string, size, held int64) error {
		if held < 0 || held > size {
			t.Errorf("partial %s of %d bytes takes %d", key, size, held)
		}
		got[key] = size
		return nil
	})
	if err != nil {
		t.Errorf("WalkPartials: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("WalkPartials (-want +got):\n%s", diff)
	}
}

func openPartial(t *testing.T, s storage.Blobs, key string) storage.PartialFile {
	t.Helper()
	p, err := s.OpenPartial(t.Context(), key)
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	return p
}

func writeAt(t *testing.T, w io.WriterAt, p []byte, off int64) {
	t.Helper()
	if n, err := w.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("WriteAt %d: %d, %v", off, n, err)
	}
}

func closeIt(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func blobsPartial(t *testing.T, s storage.Blobs) {
	const key = "0b2d7a6e-upload_1.x"
	body := Bytes("partial", 10000)
	p := openPartial(t, s, key)
	writeAt(t, p, body[8000:], 8000)
	writeAt(t, p, body[:1000], 0)
	if err := p.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
	closeIt(t, p)
	wantPartials(t, s, map[string]int64{key: 10000})
	wantWalk(t, s, map[digest.Digest]int64{})

	p = openPartial(t, s, key)
	got := make([]byte, 10000)
	if n, err := p.ReadAt(got, 0); n != 10000 || err != nil {
		t.Fatalf("ReadAt: %d, %v", n, err)
	}
	if !bytes.Equal(got[:1000], body[:1000]) || !bytes.Equal(got[8000:], body[8000:]) {
		t.Error("a partial that was opened again reads other bytes than were written")
	}
	if n, err := p.ReadAt(got, 10000); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt behind the end: %d, %v, want io.EOF", n, err)
	}
	if err := p.Truncate(900); err != nil {
		t.Errorf("Truncate: %v", err)
	}
	if n, err := p.ReadAt(got, 0); n != 900 || !errors.Is(err, io.EOF) || !bytes.Equal(got[:900], body[:900]) {
		t.Errorf("ReadAt of what was cut: %d, %v, want its 900 bytes and io.EOF", n, err)
	}
	wantPartials(t, s, map[string]int64{key: 900})
	closeIt(t, p)
}

func blobsPartialCommit(t *testing.T, s storage.Blobs) {
	body := Bytes("partial commit", 10000)
	d := digest.FromBytes(body)
	for _, there := range []bool{false, true} {
		p := openPartial(t, s, d.String())
		writeAt(t, p, append(bytes.Clone(body), "too much"...), 0)
		if err := p.Commit(t.Context(), d, int64(len(body))); err != nil {
			t.Fatalf("Commit, the blob there %t: %v", there, err)
		}
		wantBlob(t, s, d, body)
		wantPartials(t, s, map[string]int64{})
		got := make([]byte, len(body))
		if n, err := p.ReadAt(got, 0); n != len(got) || (err != nil && !errors.Is(err, io.EOF)) || !bytes.Equal(got, body) {
			t.Errorf("ReadAt after Commit: %d, %v", n, err)
		}
		if _, err := p.WriteAt([]byte("no"), 0); err == nil {
			t.Error("WriteAt after Commit succeeded")
		}
		if err := p.Truncate(0); err == nil {
			t.Error("Truncate after Commit succeeded")
		}
		if err := p.Remove(); err != nil {
			t.Errorf("Remove after Commit: %v", err)
		}
		if err := p.Commit(t.Context(), d, int64(len(body))); err == nil {
			t.Error("a second Commit succeeded")
		}
		closeIt(t, p)
		if err := s.Sync(t.Context(), d); err != nil {
			t.Errorf("Sync: %v", err)
		}
		wantBlob(t, s, d, body)
	}
}

func blobsReclaim(t *testing.T, s storage.Blobs) {
	body := Bytes("reclaim", 1000)
	d := digest.FromBytes(body)
	if err := s.Reclaim(t.Context(), d, "upload"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Reclaim of nothing: %v, want ErrNotFound", err)
	}
	for range 2 {
		p := openPartial(t, s, "upload")
		writeAt(t, p, body[:900], 0) // the second time they are there
		writeAt(t, p, body[900:], 900)
		if err := p.Commit(t.Context(), d, 1000); err != nil {
			t.Fatalf("Commit: %v", err)
		}
		closeIt(t, p)
		if err := s.Reclaim(t.Context(), d, "upload"); err != nil {
			t.Fatalf("Reclaim: %v", err)
		}
		wantAbsent(t, s, d)
		wantPartials(t, s, map[string]int64{"upload": 1000})
	}
	p := openPartial(t, s, "other")
	writeAt(t, p, body, 0)
	if err := p.Commit(t.Context(), d, 1000); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	closeIt(t, p)
	if err := s.Reclaim(t.Context(), d, "upload"); err != nil {
		t.Errorf("Reclaim of what has its bytes: %v", err)
	}
	wantBlob(t, s, d, body)
	wantPartials(t, s, map[string]int64{"upload": 1000})
}

func blobsPartialShort(t *testing.T, s storage.Blobs) {
	body := Bytes("short", 1000)
	d := digest.FromBytes(body)
	p := openPartial(t, s, "short")
	writeAt(t, p, body[:999], 0)
	if err := p.Commit(t.Context(), d, 1000); err == nil {
		t.Error("Commit of more bytes than there are succeeded")
	}
	wantAbsent(t, s, d)
	writeAt(t, p, body[999:], 999) // it stays usable
	if err := p.Commit(t.Context(), d, 1000); err != nil {
		t.Errorf("Commit: %v", err)
	}
	closeIt(t, p)
	wantBlob(t, s, d, body)
}

func blobsPartialRemove(t *testing.T, s storage.Blobs) {
	body := Bytes("gone", 100)
	p := openPartial(t, s, "gone")
	writeAt(t, p, body, 0)
	for range 2 {
		if err := p.Remove(); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	wantPartials(t, s, map[string]int64{})
	got := make([]byte, 100)
	if n, _ := p.ReadAt(got, 0); n != 100 || !bytes.Equal(got, body) {
		t.Errorf("ReadAt after Remove: %d bytes, or others", n)
	}
	writeAt(t, p, body, 100)
	if n, _ := p.ReadAt(got, 100); n != 100 || !bytes.Equal(got, body) {
		t.Errorf("ReadAt of what was written after Remove: %d bytes, or others", n)
	}
	if err := p.Commit(t.Context(), digest.FromBytes(body), 100); err == nil {
		t.Error("Commit after Remove succeeded")
	}
	second := openPartial(t, s, "gone") // beside it, of its own
	if n, err := second.ReadAt(got, 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt of another partial beside it: %d, %v, want io.EOF", n, err)
	}
	writeAt(t, p, body, 200)
	if n, err := second.ReadAt(got, 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt of another partial, after a write to the removed one: %d, %v, want io.EOF", n, err)
	}
	if err := second.Remove(); err != nil {
		t.Errorf("Remove of the other: %v", err)
	}
	closeIt(t, second)
	wantPartials(t, s, map[string]int64{})
	closeIt(t, p)
	p = openPartial(t, s, "gone")
	if n, err := p.ReadAt(got, 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt of a new partial: %d, %v, want io.EOF", n, err)
	}
	closeIt(t, p)
}
