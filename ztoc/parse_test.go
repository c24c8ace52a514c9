package ztoc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"testing"
	"time"
)

// built is a layer and what a Builder made of it.
type built struct {
	layer, ztoc []byte
	result      *Result
}

// buildVector builds a vector's zTOC, or gives nil where it is refused.
func buildVector(t testing.TB, v row) *built {
	t.Helper()
	layer, err := os.ReadFile(filepath.Join("testdata/inputs", v.file))
	if err != nil {
		t.Fatal(err)
	}
	r, err := build(bytes.NewReader(layer), v.spanSize, Options{Compression: compressionOf(v.compression)})
	if err != nil {
		return nil
	}
	t.Cleanup(func() { r.Close() })
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil {
		t.Fatal(err)
	}
	return &built{layer, z.Bytes(), r}
}

// plain is the uncompressed stream of a layer.
func (b *built) plain(t testing.TB, c Compression) []byte {
	t.Helper()
	if c == Uncompressed {
		return b.layer
	}
	r, err := gzip.NewReader(bytes.NewReader(b.layer))
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestParse reads every vector's zTOC back: head, entries, spans, verdict.
func TestParse(t *testing.T) {
	for _, v := range readVectors(t) {
		b := buildVector(t, v)
		if b == nil {
			continue
		}
		t.Run(v.name(), func(t *testing.T) {
			z, err := Parse(bytes.NewReader(b.ztoc), int64(len(b.ztoc)))
			if err != nil {
				t.Fatal(err)
			}
			plain := b.plain(t, compressionOf(v.compression))
			checkHead(t, v, b, z)
			checkEntries(t, z, plain)
			checkReads(t, b, z, plain)
			if got, want := mountVerdict(z.CheckClient()), v.verdict(); got != want {
				t.Errorf("client verdict %s, want %s", got, want)
			}
		})
	}
}

func checkHead(t *testing.T, v row, b *built, z *ZTOC) {
	t.Helper()
	got := []any{z.Version, z.BuildTool, z.LayerSize, z.ArchiveSize, z.Compression, z.SpanSize, z.NumEntries, z.NumSpans}
	r := b.result
	want := []any{Version, BuildTool, r.LayerSize, r.ArchiveSize, compressionOf(v.compression), v.spanSize, r.Entries, r.Spans}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	table, err := z.Table()
	if err != nil || !reflect.DeepEqual(table, tableOf(t, r)) {
		t.Errorf("span table differs from the builder's: %v", err)
	}
}

// checkEntries compares the entries with what archive/tar reads.
func checkEntries(t *testing.T, z *ZTOC, plain []byte) {
	t.Helper()
	r := bytes.NewReader(plain)
	tr := tar.NewReader(r)
	for e, err := range z.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		want := Entry{
			Name: h.Name, Type: entryTypes[kinds[h.Typeflag-'0']], Offset: r.Size() - int64(r.Len()), Size: h.Size,
			Linkname: h.Linkname, Mode: h.Mode, UID: uint32(h.Uid), GID: uint32(h.Gid), Uname: h.Uname, Gname: h.Gname,
			DevMajor: h.Devmajor, DevMinor: h.Devminor,
		}
		if text, err := h.ModTime.UTC().MarshalText(); err == nil {
			want.ModTime = string(text)
		}
		for k, v := range h.PAXRecords {
			want.PAX = append(want.PAX, Record{k, v})
		}
		sort.Slice(want.PAX, func(i, j int) bool { return want.PAX[i].Key < want.PAX[j].Key })
		if !reflect.DeepEqual(e, want) {
			t.Fatalf("got  %+v\nwant %+v", e, want)
		}
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("the ztoc lacks entries: %v", err)
	}
}

// checkReads reads every span, every file that is where it says, and a few
// ranges, and compares.
func checkReads(t *testing.T, b *built, z *ZTOC, plain []byte) {
	t.Helper()
	layer := bytes.NewReader(b.layer)
	s, err := z.spans()
	if err != nil {
		t.Fatal(err)
	}
	for i := range z.NumSpans {
		var got bytes.Buffer
		end := int64(len(plain))
		if i+1 < z.NumSpans {
			end = s.out[i+1]
		}
		if _, err := z.ReadSpan(t.Context(), i, layer, &got); err != nil || !bytes.Equal(got.Bytes(), plain[s.out[i]:end]) {
			t.Fatalf("span %d: got %d bytes, want %d: %v", i, got.Len(), end-s.out[i], err)
		}
		sp := s.table.Span(i)
		if first, last := s.table.Cover(sp.Off, sp.End); first > i || last < i {
			t.Errorf("span %d is covered by %d to %d", i, first, last)
		}
	}
	for e, err := range z.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != TypeReg || e.Offset+e.Size > z.ArchiveSize {
			continue
		}
		var got bytes.Buffer
		if _, err := z.ReadRange(t.Context(), e.Offset, e.Size, layer, &got); err != nil || !bytes.Equal(got.Bytes(), plain[e.Offset:e.Offset+e.Size]) {
			t.Fatalf("%s: %v", e.Name, err)
		}
	}
	if n := int64(len(plain)); z.NumSpans > 0 {
		if _, err := z.ReadRange(t.Context(), n, 1, layer, io.Discard); err == nil {
			t.Error("a byte behind the end was read")
		}
	}
}

// TestExtract reads files by name, and takes the layer's bytes only where they
// are what the zTOC was made of.
func TestExtract(t *testing.T) {
	b := tarball(t,
		tar.Header{Name: "./etc/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./etc/motd", Size: 5},
		tar.Header{Name: "etc/motd", Size: 70_000},
		tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "./etc/motd"},
		tar.Header{Name: "sym", Typeflag: tar.TypeSymlink, Linkname: "etc/motd"},
		tar.Header{Name: "gone", Typeflag: tar.TypeLink, Linkname: "nowhere"},
	)
	z, err := Parse(bytes.NewReader(b.ztoc), int64(len(b.ztoc)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		size int64
		err  error
	}{
		{"./etc/motd", 70_000, nil}, // the same path as the later one
		{"etc/motd", 70_000, nil},
		{"/etc/motd", 70_000, nil},
		{"/etc//x/../motd", 70_000, nil},
		{"link", 70_000, nil},
		{"sym", 0, ErrUnsupported},
		{"etc", 0, ErrUnsupported},
		{"gone", 0, ErrNotFound},
		{"none", 0, ErrNotFound},
	} {
		var got bytes.Buffer
		n, err := z.Extract(t.Context(), tc.name, bytes.NewReader(b.layer), &got)
		if n != tc.size || int64(got.Len()) != tc.size || !errors.Is(err, tc.err) {
			t.Errorf("%s: got %d bytes, %v; want %d, %v", tc.name, n, err, tc.size, tc.err)
		}
	}
	for i := range b.layer {
		bad := bytes.Clone(b.layer)
		bad[i] ^= 1
		_, err := z.Extract(t.Context(), "etc/motd", bytes.NewReader(bad), io.Discard)
		if inSpan := int64(i) >= tableOf(t, b.result).HeadEnd(); inSpan != errors.Is(err, ErrDigest) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := z.Extract(t.Context(), "etc/motd", bytes.NewReader(b.layer[:100]), io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("layer cut: %v", err)
	}
	if got := verdictOf(b.result.CheckClient()); got != "reject:hardlink" {
		t.Errorf("link to nowhere: %s", got)
	}
	if got := verdictOf(z.CheckClient()); got != "reject:hardlink" {
		t.Errorf("link to nowhere, parsed: %s", got)
	}
}

// tarball builds the zTOC of a gzipped tar of the given entries.
func tarball(t testing.TB, hs ...tar.Header) *built {
	t.Helper()
	var layer bytes.Buffer
	gz := gzip.NewWriter(&layer)
	tw := tar.NewWriter(gz)
	for _, h := range hs {
		h.ModTime, h.Mode = time.Unix(1_600_000_000, 0), 0o644
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		for i := int64(0); i < h.Size; i++ {
			fmt.Fprintf(tw, "%c", 'a'+byte(i%17))
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := build(bytes.NewReader(layer.Bytes()), DefaultSpanSize, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil {
		t.Fatal(err)
	}
	return &built{layer.Bytes(), z.Bytes(), r}
}

// TestHardlinks are the links that a client follows, and those at which it
// gives up the layer.
func TestHardlinks(t *testing.T) {
	reg := func(name string) tar.Header { return tar.Header{Name: name} }
	link := func(name, to string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to} }
	for _, tc := range []struct {
		name string
		tar  []tar.Header
		want string
	}{
		{"to a file", []tar.Header{reg("a"), link("b", "a")}, "ok"},
		{"to a link", []tar.Header{reg("a"), link("b", "a"), link("c", "b")}, "ok"},
		{"other spelling", []tar.Header{reg("./d/a"), link("b", "/d//a")}, "ok"},
		{"to a directory that is only implied", []tar.Header{reg("d/e/a"), link("b", "d/e")}, "ok"},
		{"to the root", []tar.Header{reg("a"), link("b", "/")}, "ok"},
		{"to a later file", []tar.Header{link("b", "a"), reg("a")}, "reject:hardlink"},
		{"to itself", []tar.Header{link("b", "b")}, "reject:hardlink"},
		{"to a name that begins like a file", []tar.Header{reg("dd/a"), link("b", "d")}, "reject:hardlink"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := tarball(t, tc.tar...)
			z, err := Parse(bytes.NewReader(b.ztoc), int64(len(b.ztoc)))
			if err != nil {
				t.Fatal(err)
			}
			if got, again := verdictOf(b.result.CheckClient()), verdictOf(z.CheckClient()); got != tc.want || again != tc.want {
				t.Errorf("got %s and %s, want %s", got, again, tc.want)
			}
		})
	}
}

// countedReader counts the bytes that are read.
type countedReader struct {
	*bytes.Reader
	n int64
}

func (c *countedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// TestReadsOnce: all entries together are read once, and no window is.
func TestReadsOnce(t *testing.T) {
	var layer bytes.Buffer
	if err := manyFiles(&layer, 20_000); err != nil {
		t.Fatal(err)
	}
	gz := gzipMember(t, layer.Bytes())
	res, err := build(bytes.NewReader(gz), 64<<10, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var p bytes.Buffer
	if _, err := res.WriteTo(&p); err != nil {
		t.Fatal(err)
	}
	r := &countedReader{Reader: bytes.NewReader(p.Bytes())}
	z, err := Parse(r, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range z.Entries() {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := z.Table(); err != nil {
		t.Fatal(err)
	}
	entries := res.Size - int64(z.NumSpans)*checkpointSize
	if most := entries*3/2 + 1<<18; r.n > most || z.NumSpans < 3 {
		t.Errorf("read %d bytes, want %d at most of %d; %d spans", r.n, most, res.Size, z.NumSpans)
	}
}
