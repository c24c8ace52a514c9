package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPushedOverDamaged pushes what is here already, whole or with other bytes: from
// then on what was pushed is here, whoever had it and whoever reads the old one.
func TestPushedOverDamaged(t *testing.T) {
	body := storagetest.Bytes("x", 3000)
	d := digest.FromBytes(body)
	for name, damage := range map[string]func(t *testing.T, r *rig){
		"right":   func(*testing.T, *rig) {},
		"flipped": func(_ *testing.T, r *rig) { r.rot(d, 2000) },
		"gone": func(t *testing.T, r *rig) {
			if err := os.Remove(r.file(d)); err != nil {
				t.Fatal(err)
			}
		},
		"replaced, short": func(t *testing.T, r *rig) {
			if err := errors.Join(os.Remove(r.file(d)), os.WriteFile(r.file(d), body[:100], 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, hosted := range []bool{false, true} {
			for how, push := range map[string]func(r *rig) error{
				"uploaded": func(r *rig) error { return r.upload(body, 1000) },
				"put": func(r *rig) error {
					return r.Put(t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindHosted}, body, content(app, d, len(body)))
				},
			} {
				t.Run(map[bool]string{false: "cached, ", true: "hosted, "}[hosted]+name+", "+how, func(t *testing.T) {
					r := newRig(t, t.TempDir(), nil, storage.Options{})
					if hosted {
						r.push(gcOther, string(body), nil)
					} else {
						r.mustPut(body, storage.KindBlob, storage.Durable)
					}
					reader, err := r.Open(t.Context(), d)
					if err != nil {
						t.Fatal(err)
					}
					damage(t, r)
					if err := push(r); err != nil {
						t.Fatal(err)
					}
					if got, err := r.read(d); err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d bytes are read, or others, %v", len(got), err)
					}
					if row, err := r.row(d); err != nil || row.Kind != storage.KindHosted {
						t.Errorf("row %+v, %v", row, err)
					}
					if got, err := io.ReadAll(io.NewSectionReader(reader, 0, reader.Size())); err != nil || len(got) != len(body) {
						t.Errorf("who had it open: %d bytes, %v", len(got), err)
					}
					closeIt(t, reader)
					if found, _ := r.check(false); len(found) > 0 {
						t.Errorf("the check finds %v", found)
					}
					r.wantUsage()
				})
			}
		}
	}
}

// TestDropWrongLeavesRight: what is right, or not here, stays as it is.
func TestDropWrongLeavesRight(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	d := r.mustPut(kb("right", 3), storage.KindBlob, storage.Durable)
	fresh := r.mustPut(kb("not filed yet", 3), storage.KindBlob, storage.Cached)
	for _, x := range []digest.Digest{d, fresh, digest.FromString("not here")} {
		if err := r.DropWrong(t.Context(), x); err != nil {
			t.Errorf("DropWrong: %v", err)
		}
	}
	r.wantServed("what is right", d)
	r.wantServed("what is not filed yet", fresh)
	r.rot(d, 7)
	if err := r.DropWrong(t.Context(), d); err != nil {
		t.Errorf("DropWrong of what is wrong: %v", err)
	}
	r.wantAbsent("what is wrong", d)
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	r.wantUsage()
}

// endsAtRead ends a context at the first read of a blob, and counts the reads.
type endsAtRead struct {
	storage.Blobs
	end   func()
	reads int
}

func (e *endsAtRead) Open(ctx context.Context, d digest.Digest) (storage.Blob, error) {
	b, err := e.Blobs.Open(ctx, d)
	return &endingBlob{b, e}, err
}

type endingBlob struct {
	storage.Blob
	of *endsAtRead
}

func (b *endingBlob) ReadAt(p []byte, off int64) (int, error) {
	b.of.reads++
	b.of.end()
	return b.Blob.ReadAt(p, off)
}

// TestDropWrongEnds: who has left has no large blob read to its end.
func TestDropWrongEnds(t *testing.T) {
	dir := t.TempDir()
	blobs, err := disk.NewFS(dir, storagetest.NoSync{})
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	ends := &endsAtRead{Blobs: blobs, end: func() { cancel(gone) }}
	r := newRig(t, dir, nil, storage.Options{Blobs: ends})
	d := r.mustPut(kb("large", 2000), storage.KindBlob, storage.Durable)
	r.rot(d, 7)
	if err := r.DropWrong(ctx, d); !errors.Is(err, gone) || ends.reads != 1 {
		t.Errorf("DropWrong: %v after %d reads, want the cause of the end after one", err, ends.reads)
	}
	if _, err := r.row(d); err != nil {
		t.Errorf("its row: %v", err)
	}
}

// TestReadInto: who reads less than was asked for, or is stopped, is told.
func TestReadInto(t *testing.T) {
	stopped := errors.New("stopped")
	ended, stop := context.WithCancelCause(t.Context())
	stop(stopped)
	for _, c := range []struct {
		ctx  context.Context
		size int64
		want error
		n    int
	}{
		{t.Context(), 10, nil, 10}, {t.Context(), 0, nil, 0}, {t.Context(), 7, nil, 7},
		{t.Context(), 11, io.ErrUnexpectedEOF, 10}, {ended, 10, stopped, 0},
	} {
		var out bytes.Buffer
		err := storage.ReadInto(c.ctx, struct{ io.Writer }{&out}, strings.NewReader("0123456789"), c.size, make([]byte, 3))
		if !errors.Is(err, c.want) || out.Len() != c.n {
			t.Errorf("%d of 10 bytes: %d, %v, want %d, %v", c.size, out.Len(), err, c.n, c.want)
		}
	}
}
