package ztoc

import (
	"archive/tar"
	"bytes"
	"math/rand/v2"
	"testing"
)

// oldZinfo writes zinfo version 1, which leaves checkpoint 0 out.
type oldZinfo struct {
	codec
	spill *spill
}

func (c oldZinfo) zinfo(size int64) ([]extent, int64, error) {
	es, _, err := c.codec.zinfo(size)
	if err != nil {
		return nil, 0, err
	}
	var all bytes.Buffer
	if _, err := c.spill.writeTo(&all, es); err != nil {
		return nil, 0, err
	}
	p := append(bytes.Clone(all.Bytes()[:zinfoHeader]), all.Bytes()[zinfoHeader+checkpointSize:]...)
	return []extent{{mem: p, n: int64(len(p))}}, int64(len(p)), nil
}

// TestOldZinfo reads every file by a zTOC of the oldest kind, and finds the spans
// that one of today's has.
func TestOldZinfo(t *testing.T) {
	layer := multiSpanLayer(t)
	parse := func(old bool) *ZTOC {
		b, err := NewBuilder(64<<10, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		if old {
			b.codec = oldZinfo{b.codec, b.spill}
		}
		if _, err := b.Write(layer); err != nil {
			t.Fatal(err)
		}
		r, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var out bytes.Buffer
		if _, err := r.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		z, err := Parse(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	now, old := parse(false), parse(true)
	if old.implicit != 1 || now.implicit != 0 || old.NumSpans != now.NumSpans || now.NumSpans < 3 {
		t.Fatalf("%d spans, today's has %d", old.NumSpans, now.NumSpans)
	}
	for e, err := range now.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		var got, want bytes.Buffer
		if _, err := old.Extract(t.Context(), e.Name, bytes.NewReader(layer), &got); err != nil {
			t.Fatal(err)
		}
		if _, err := now.Extract(t.Context(), e.Name, bytes.NewReader(layer), &want); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: %d bytes, want %d, %v", e.Name, got.Len(), want.Len(), err)
		}
	}
}

// multiSpanLayer is a gzip layer of four files whose text compresses.
func multiSpanLayer(t *testing.T) []byte {
	t.Helper()
	var files bytes.Buffer
	tw := tar.NewWriter(&files)
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"a", "b", "c", "d"} {
		body := make([]byte, 150_000)
		for i := range body {
			body[i] = "abcdefghijklmnop"[r.IntN(16)]
		}
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return gzipMember(t, files.Bytes())
}
