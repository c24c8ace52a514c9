package ztoc

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

// allocated is how many bytes of memory fn takes, those that are given back
// included.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// readAll reads all there is of a zTOC but the windows, and gives the first
// error of each way to do so.
func readAll(p []byte, size int64) (err error) {
	z, err := Parse(bytes.NewReader(p), size)
	if err != nil {
		return err
	}
	for _, e := range z.Entries() {
		err = errors.Join(err, e)
	}
	_, tableErr := z.Table()
	_, nameErr := z.Lookup("no/such/name")
	if errors.Is(nameErr, ErrNotFound) {
		nameErr = nil
	}
	return errors.Join(err, tableErr, nameErr, z.CheckClient())
}

// hostileParts are the parts of a zTOC that hostile makes in another way than
// the builder; nil is none of them.
type hostileParts struct {
	records, entries, digests func(w *fbWriter) int64 // the vector of each
	layerSize                 int64                   // of an uncompressed layer in spans of one byte
}

func (h hostileParts) write(t *testing.T) []byte {
	t.Helper()
	s := &spill{dir: t.TempDir()}
	defer s.close()
	w := newFBWriter(s)
	version, tool := w.text(Version), w.text(BuildTool)
	part := func(make func(*fbWriter) int64) int64 {
		if make == nil {
			return w.vector(0, nil)
		}
		return make(w)
	}
	entries := h.entries
	if h.records != nil {
		entries = func(w *fbWriter) int64 {
			name, records := w.text("a"), h.records(w)
			w.begin()
			w.ref(0, name)
			w.ref(13, records)
			e := w.finishTable()
			return w.vector(1, func(int) int64 { return e })
		}
	}
	metadata := part(entries)
	w.begin()
	w.ref(0, metadata)
	toc := w.finishTable()
	es, n, err := plainZinfo(1, h.layerSize)
	if err != nil {
		t.Fatal(err)
	}
	zinfo, digests := w.byteVector(es, n), part(h.digests)
	w.begin()
	w.ref(2, digests)
	w.ref(3, zinfo)
	w.int8(0, int8(Uncompressed), 1)
	info := w.finishTable()
	w.begin()
	w.ref(0, version)
	w.ref(1, tool)
	w.ref(4, toc)
	w.int64(2, h.layerSize)
	w.ref(5, info)
	parts, err := w.finish(w.finishTable())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := s.writeTo(&out, parts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestHostile reads zTOCs in which a million references lead to one thing.
// They must be refused, for little memory, and few bytes read.
func TestHostile(t *testing.T) {
	const many = 1 << 20
	sharedBy := func(make func(w *fbWriter) int64) func(*fbWriter) int64 {
		return func(w *fbWriter) int64 {
			at := make(w)
			return w.vector(many, func(int) int64 { return at })
		}
	}
	record := func(key, value string) func(w *fbWriter) int64 {
		return func(w *fbWriter) int64 {
			k, v := w.text(key), w.text(value)
			w.begin()
			w.ref(0, k)
			w.ref(1, v)
			return w.finishTable()
		}
	}
	for what, h := range map[string]hostileParts{
		"record": {records: sharedBy(record("k", "v"))},
		"entry":  {entries: sharedBy(record("k", "v"))},
		"digest": {layerSize: many, digests: sharedBy(func(w *fbWriter) int64 {
			return w.text("sha256:0000000000000000000000000000000000000000000000000000000000000000")
		})},
	} {
		t.Run(what, func(t *testing.T) {
			p := h.write(t)
			var err error
			r := &countedReader{Reader: bytes.NewReader(p)}
			took := allocated(func() {
				var z *ZTOC
				if z, err = Parse(r, int64(len(p))); err != nil {
					return
				}
				for _, e := range z.Entries() {
					err = errors.Join(err, e)
				}
			})
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
			if took > 8*uint64(len(p)) || r.n > (maxRereads+1)*int64(len(p))+rereadsAtOnce {
				t.Errorf("%d bytes of memory, %d read, of a ztoc of %d", took, r.n, len(p))
			}
		})
	}
}

// TestHostileSize reads zTOCs that are said to be larger than they are, or than
// any is.
func TestHostileSize(t *testing.T) {
	b := smallBuild(t)
	for _, size := range []int64{-1, maxZTOC + 1, 1 << 40} {
		if _, err := Parse(bytes.NewReader(b.ztoc), size); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes: got %v, want ErrInvalid", size, err)
		}
	}
	f := newFBReader(bytes.NewReader(make([]byte, 100<<10)), 0, maxZTOC)
	took := allocated(func() { f.bytes(10, maxZTOC-10) })
	if !errors.Is(f.err, io.ErrUnexpectedEOF) || took > 1<<20 {
		t.Errorf("%d bytes of memory for 100 KiB that are said to be 2 GiB: %v", took, f.err)
	}
}

// changing is a layer whose bytes change when they have been read so often.
type changing struct {
	io.ReaderAt
	left int64
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	if c.left -= int64(n); c.left < 0 && n > 0 {
		p[n-1] ^= 1
	}
	return n, err
}

// TestLongSpanChanges reads spans that are too long to be held, of a layer that is
// another one when it is read for the second time.
func TestLongSpanChanges(t *testing.T) {
	noise := make([]byte, wholeSpan+1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	layer := append(oneFile(t, noise), make([]byte, 1024)...)
	for _, c := range []Compression{Gzip, Uncompressed} {
		body := layer
		if c == Gzip {
			body = gzipMember(t, layer)
		}
		r, err := build(bytes.NewReader(body), 1<<30, Options{Compression: c})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var p bytes.Buffer
		if _, err := r.WriteTo(&p); err != nil {
			t.Fatal(err)
		}
		z := parsed(t, p.Bytes())
		var got bytes.Buffer
		if _, err := z.ReadRange(t.Context(), 600, 100, bytes.NewReader(body), &got); err != nil || !bytes.Equal(got.Bytes(), layer[600:700]) {
			t.Errorf("%s: %d bytes: %v", c, got.Len(), err)
		}
		for _, n := range []int64{100, int64(len(noise))} {
			later := &changing{bytes.NewReader(body), int64(len(body)) + 100<<10}
			if _, err := z.ReadRange(t.Context(), 512, n, later, io.Discard); !errors.Is(err, ErrDigest) {
				t.Errorf("%s: %d bytes of a layer that changes: %v", c, n, err)
			}
		}
	}
}

// oneFile is the beginning of a tar: one file.
func oneFile(t *testing.T, content []byte) []byte {
	t.Helper()
	var p bytes.Buffer
	w := tar.NewWriter(&p)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return p.Bytes()
}

// TestCallersFaults: what a caller does wrong is not the zTOC's fault, and ends.
func TestCallersFaults(t *testing.T) {
	b := smallBuild(t)
	z := parsed(t, b.ztoc)
	for _, tc := range []struct{ off, n int64 }{{-1, 1}, {0, -1}, {1 << 62, 1}} {
		_, err := z.ReadRange(t.Context(), tc.off, tc.n, bytes.NewReader(b.layer), io.Discard)
		if !errors.Is(err, ErrRange) || errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes at %d: %v", tc.n, tc.off, err)
		}
	}
	var zero Builder
	zero.Abort()
	if _, err := zero.Finish(); !errors.Is(err, ErrAborted) {
		t.Errorf("Finish of the zero Builder: %v", err)
	}
	if _, err := zero.Write([]byte("x")); !errors.Is(err, ErrAborted) {
		t.Errorf("Write to the zero Builder: %v", err)
	}
	n, err := NewBuilder(0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Abort()
	if _, err := n.ReadFrom(idle{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }
