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
	"slices"
	"sort"
	"strings"
	"testing"
)

// walked is what a reader makes of a tar.
type walked struct {
	Entries []Entry
	Archive int64
	Fault   string // class
}

// walkReference reads with archive/tar, as the official builder does.
func walkReference(data []byte) (w walked) {
	r := bytes.NewReader(data)
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		pos := r.Size() - int64(r.Len())
		if err == io.EOF {
			w.Archive = pos
			return w
		}
		if err != nil {
			w.Fault = string(ClassTarHeader)
			return w
		}
		if h.Typeflag < '0' || h.Typeflag > '6' {
			w.Fault = string(ClassTarType)
			return w
		}
		e := Entry{
			Name: h.Name, Type: entryTypes[kinds[h.Typeflag-'0']], Offset: pos, Size: h.Size,
			Linkname: h.Linkname, Mode: h.Mode, UID: uint32(h.Uid), GID: uint32(h.Gid), Uname: h.Uname, Gname: h.Gname,
			DevMajor: h.Devmajor, DevMinor: h.Devminor,
		}
		if text, err := h.ModTime.UTC().MarshalText(); err == nil {
			e.ModTime = string(text)
		}
		for k, v := range h.PAXRecords {
			e.PAX = append(e.PAX, Record{k, v})
		}
		sort.Slice(e.PAX, func(i, j int) bool { return e.PAX[i].Key < e.PAX[j].Key })
		w.Entries = append(w.Entries, e)
	}
}

// walk reads with tarWalk, so many bytes at a time.
func walk(data []byte, chunk int) (w walked, err error) {
	t := newTarWalk(&spill{}, Options{}.withDefaults())
	for p := data; len(p) > 0; {
		n := min(len(p), chunk)
		part := bytes.Clone(p[:n])
		t.feed(part)
		clear(part) // it may not be kept
		p = p[n:]
	}
	var e *Error
	if err := t.finish(nil); errors.As(err, &e) {
		w.Fault = string(e.Class)
	} else if err != nil {
		return w, err
	} else {
		w.Archive = t.archive
	}
	r := t.entries.backward()
	for r.more() {
		w.Entries = append(w.Entries, readEntry(r))
	}
	slices.Reverse(w.Entries)
	return w, r.err
}

// readEntry reads an entry off a tape, as Parse gives it.
func readEntry(r *tapeReader) Entry {
	var e rawEntry
	e.read(r)
	x := Entry{
		Type: entryTypes[e.kind], Offset: e.num[0], Size: e.num[1],
		Mode: e.num[2], UID: uint32(e.num[3]), GID: uint32(e.num[4]),
		ModTime: string(appendModTime(nil, e.num[5], e.num[6])), DevMajor: e.num[7], DevMinor: e.num[8],
	}
	for _, s := range []*string{&x.Name, &x.Linkname, &x.Uname, &x.Gname} {
		*s = string(r.text())
	}
	for range e.pax {
		key := string(r.text())
		x.PAX = append(x.PAX, Record{key, string(r.text())})
	}
	return x
}

// compareWalks reads a tar in pieces of several sizes and as archive/tar does.
func compareWalks(t *testing.T, data []byte) {
	t.Helper()
	want := walkReference(data)
	for _, chunk := range []int{1 << 20, 512, 511, 7} {
		got, err := walk(data, chunk)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%d bytes at a time:\ngot  %+v\nwant %+v", chunk, got, want)
		}
	}
}

// tarInputs are the tars in the vectors, uncompressed, up to a size.
func tarInputs(t testing.TB, limit int) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/inputs/*")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if zr, err := gzip.NewReader(bytes.NewReader(p)); err == nil {
			p, _ = io.ReadAll(zr) // what there is
		}
		if len(p) <= limit {
			all[filepath.Base(name)] = p
		}
	}
	return all
}

func TestTarWalk(t *testing.T) {
	for name, data := range tarInputs(t, 200<<10) {
		t.Run(name, func(t *testing.T) {
			compareWalks(t, data)
			for i := 0; i < len(data); i += 1 + len(data)/20 {
				compareWalks(t, data[:i])
			}
		})
	}
}

// tarHead is a header block, with fields set at offsets.
func tarHead(flag byte, size int, set map[int]string) []byte {
	b := make([]byte, 512)
	copy(b, "name")
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x0014000000000\x00", size))
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	for off, v := range set {
		copy(b[off:], v)
	}
	return sumBlock(b)
}

// sumBlock sets a block's checksum.
func sumBlock(b []byte) []byte {
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// special is an extended header with its content.
func special(flag byte, content string) []byte {
	p := append(tarHead(flag, len(content), nil), content...)
	return append(p, make([]byte, -len(content)&511)...)
}

// pax is an extended header of the given keys and values.
func pax(kv ...string) []byte {
	var b strings.Builder
	for i := 0; i < len(kv); i += 2 {
		rest := fmt.Sprintf(" %s=%s\n", kv[i], kv[i+1])
		n := len(rest) + 1
		for n != len(rest)+len(fmt.Sprint(n)) {
			n++
		}
		fmt.Fprintf(&b, "%d%s", n, rest)
	}
	return special('x', b.String())
}

// oddTars are archives that the vectors have not.
func oddTars() map[string][]byte {
	join := func(parts ...[]byte) []byte { return append(bytes.Join(parts, nil), make([]byte, 1024)...) }
	file := tarHead('0', 0, nil)
	gnu := func(flag byte, set map[int]string) []byte {
		set[257] = "ustar  \x00"
		return tarHead(flag, 512, set)
	}
	signed := tarHead('0', 0, map[int]string{0: "\xff\xfe\xfd"})
	copy(signed[148:], fmt.Sprintf("%06o\x00 ", sumOfSigned(signed)))
	data := make([]byte, 512)
	oldMap := "00000000000\x0000000000001\x0000000000005\x0000000000002\x00"
	return map[string][]byte{
		"signed sum":               join(signed),
		"type NUL with a slash":    join(tarHead(0, 5, map[int]string{0: "dir/\x00"}), file),
		"type NUL, negative size":  join(tarHead(0, 0, map[int]string{0: "dir/\x00", 124: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"})),
		"directory, negative size": join(tarHead('5', 0, map[int]string{124: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}), file),
		"file, negative size":      join(tarHead('0', 0, map[int]string{124: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"})),
		"number with junk":         join(tarHead('0', 0, map[int]string{100: "06 4\x00"})),
		"number, NUL, junk":        join(tarHead('0', 0, map[int]string{100: "06\x004x"})),
		"number of spaces":         join(tarHead('0', 0, map[int]string{100: "        "})),
		"base-256 overflow":        join(tarHead('0', 0, map[int]string{124: "\x80\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"})),
		"size near the end":        join(tarHead('5', 0, map[int]string{124: "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}), file),
		"prefix":                   join(tarHead('0', 0, map[int]string{345: "a/b"})),
		"prefix and slash":         join(tarHead('0', 0, map[int]string{345: "a/", 0: "/c\x00"})),
		"star":                     join(tarHead('0', 0, map[int]string{345: "pre", 476: "00000000001\x0000000000002\x00", 508: "tar\x00"})),
		"star, bad time":           join(tarHead('0', 0, map[int]string{345: "pre", 476: "x", 508: "tar\x00"})),
		"gnu with a prefix":        join(gnu('0', map[int]string{345: "some/dir"}), data),
		"gnu with a foreign one":   join(gnu('0', map[int]string{345: "some/d\xe9r"}), data),
		"gnu with times":           join(gnu('0', map[int]string{345: "00000000001\x0000000000002\x00"}), data),
		"v7":                       join(tarHead('0', 0, map[int]string{257: "\x00\x00\x00\x00\x00\x00\x00\x00", 265: "user"})),
		"PAX twice":                join(pax("path", "a", "comment", "x"), pax("linkpath", "b"), file),
		"PAX and long names":       join(special('L', "long\x00tail"), pax("path", "a", "linkpath", "l"), special('K', "link"), file, file),
		"empty long name":          join(special('L', ""), special('K', "\x00"), file),
		"PAX, key twice":           join(pax("path", "a", "z", "1", "path", "b", "z", ""), file),
		"PAX, empty values":        join(pax("path", "", "size", "", "mtime", ""), file),
		"PAX, nothing":             join(special('x', ""), file),
		"PAX times":                join(pax("mtime", "-1.5", "atime", "1.", "ctime", "+3"), file, pax("mtime", "1.123456789123"), file, pax("mtime", "-0.5"), file),
		"PAX, bad time":            join(pax("mtime", "1.x"), file),
		"PAX, time of nothing":     join(pax("mtime", ".5"), file),
		"PAX, far times":           join(pax("mtime", "9223372036854775807"), file, pax("mtime", "-9223372036854775808.9"), file, pax("mtime", "253402300799.9"), file, pax("mtime", "-62167219200.5"), file),
		"PAX, bad atime":           join(pax("atime", "x"), file),
		"PAX, bad size":            join(pax("size", "1e3"), file),
		"PAX, negative size":       join(pax("size", "-1"), file),
		"PAX, size of a directory": join(pax("size", "-7"), tarHead('5', 0, nil), file),
		"PAX ids":                  join(pax("uid", "-1", "gid", "4294967301"), file),
		"PAX, NUL in a path":       join(pax("path", "a\x00b"), file),
		"PAX, NUL in a value":      join(pax("SCHILY.xattr.user.x", "a\x00b=c"), file),
		"PAX, NUL in a key":        join(pax("a\x00", "b"), file),
		"PAX, no newline":          join(special('x', "10 path=ab"), file),
		"PAX, wrong length":        join(special('x', "12 path=ab\n"), file),
		"PAX, short length":        join(special('x', "4 a=\n"), file),
		"PAX, no key":              join(special('x', "5 =a\n"), file),
		"PAX, no equals":           join(special('x', "6 abc\n"), file),
		"PAX, length with a plus":  join(special('x', "+8 a=bc\n"), file),
		"PAX, length with zeros":   join(special('x', "008 a=b\n"), file),
		"PAX too long":             join(special('x', strings.Repeat("a", 1<<20+1)), file),
		"PAX of 1 MiB":             join(special('x', "1048576 a="+strings.Repeat("a", 1<<20-11)+"\n"), file),
		"PAX global":               join(special('g', "6 a=b\n"), file),
		"PAX global, malformed":    join(special('g', "7 a=b\n"), file),
		"sparse 0.0":               join(pax("GNU.sparse.size", "20", "GNU.sparse.numblocks", "2", "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "5", "GNU.sparse.offset", "9", "GNU.sparse.numbytes", "1"), tarHead('0', 6, nil), data),
		"sparse 0.0, order":        join(pax("GNU.sparse.numbytes", "5", "GNU.sparse.offset", "0"), file),
		"sparse 0.0, comma":        join(pax("GNU.sparse.offset", "0,1"), file),
		"sparse 0.1":               join(pax("GNU.sparse.map", "0,5,9,1", "GNU.sparse.name", "real", "GNU.sparse.realsize", "20", "GNU.sparse.numblocks", "2"), tarHead('0', 6, nil), data),
		"sparse 0.1, overlap":      join(pax("GNU.sparse.map", "0,5,3,1", "GNU.sparse.realsize", "20", "GNU.sparse.numblocks", "2"), tarHead('0', 6, nil), data),
		"sparse 0.1, too few":      join(pax("GNU.sparse.map", "0,5", "GNU.sparse.realsize", "20", "GNU.sparse.numblocks", "2"), tarHead('0', 6, nil), data),
		"sparse 0.1, beyond":       join(pax("GNU.sparse.map", "0,50", "GNU.sparse.realsize", "20", "GNU.sparse.numblocks", "1"), tarHead('0', 6, nil), data),
		"sparse directory":         join(pax("GNU.sparse.map", "0,5", "GNU.sparse.realsize", "20", "GNU.sparse.numblocks", "1"), tarHead('5', 0, nil), data),
		"sparse 0.1, bad size":     join(pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "x", "GNU.sparse.numblocks", "0"), file),
		"sparse 0.1, nothing":      join(pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "9", "GNU.sparse.numblocks", "0"), file),
		"sparse 2.0":               join(pax("GNU.sparse.major", "2", "GNU.sparse.minor", "0", "GNU.sparse.name", "n"), file),
		"sparse 1.0":               join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "900", "GNU.sparse.name", "n"), tarHead('0', 1024, nil), pad("1\n800\n100\n"), data, file),
		"sparse 1.0, long map":     join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "900"), tarHead('0', 1300, nil), pad("70\n"+strings.Repeat("1\n0\n00001\n0\n", 35)+strings.Repeat("\n", 250)), make([]byte, 512), file),
		"sparse 1.0, nothing":      join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "900"), tarHead('0', 512, nil), pad("0\n"), file),
		"sparse 1.0, no map":       join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0"), tarHead('0', 100, nil), pad("0\n"), file),
		"sparse 1.0, bad count":    join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0"), tarHead('0', 512, nil), pad("x\n"), file),
		"sparse 1.0, map too big":  join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0"), tarHead('0', 2<<20, nil), make([]byte, 2<<20)),
		"sparse 1.0, of 1 MiB":     join(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.size", "9"), tarHead('0', 2<<20, nil), []byte("174762\n"+strings.Repeat("0\n0\n", 174762)), make([]byte, 2<<20)),
		"old sparse":               join(gnu('S', map[int]string{386: oldMap, 483: "00000000010\x00"}), data, file),
		"old sparse, too small":    join(gnu('S', map[int]string{386: oldMap, 483: "00000000006\x00"}), data, file),
		"old sparse, extended":     join(gnu('S', map[int]string{386: oldMap, 482: "\x01", 483: "00000000010\x00"}), pad("00000000007\x0000000000001\x00"), data, file),
		"old sparse, cut":          gnu('S', map[int]string{386: oldMap, 482: "\x01", 483: "00000000010\x00"}),
		"old sparse, bad map":      join(gnu('S', map[int]string{386: "x", 483: "00000000010\x00"}), data, file),
		"old sparse, bad size":     join(gnu('S', map[int]string{386: oldMap, 483: "x"}), data, file),
		"old sparse, not GNU":      join(tarHead('S', 0, map[int]string{386: oldMap}), file),
		"old sparse, without end":  join(gnu('S', map[int]string{482: "\x01", 483: "00000000010\x00"}), bytes.Repeat([]byte{1}, 2<<20)),
		"type V":                   join(tarHead('V', 0, nil), file),
		"type 7":                   join(tarHead('7', 0, nil), file),
		"cut in the padding":       append(tarHead('0', 5, nil), "12345\x00\x00"...),
		"cut before the padding":   append(tarHead('0', 5, nil), "12345"...),
		"cut in the data":          append(tarHead('0', 5, nil), "1234"...),
		"cut in a header":          append(append(tarHead('0', 5, nil), pad("12345")...), "xyz"...),
		"cut in PAX":               pax("path", "a")[:520],
	}
}

func pad(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }

func sumOfSigned(b []byte) (sum int) {
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(int8(c))
	}
	return sum & 0o777777
}

func TestOddTars(t *testing.T) {
	for name, data := range oddTars() {
		t.Run(name, func(t *testing.T) { compareWalks(t, data) })
	}
}

// FuzzTar compares the walk with archive/tar. Every block that a bit of sums
// stands for gets a right checksum first, for otherwise there is nothing to see.
func FuzzTar(f *testing.F) {
	for _, data := range tarInputs(f, 8<<10) {
		f.Add(data, uint64(1))
	}
	for _, data := range oddTars() {
		if len(data) < 8<<10 {
			f.Add(data, uint64(0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, sums uint64) {
		if len(data) > 1<<16 {
			return
		}
		data = bytes.Clone(data)
		for i := 0; (i+1)*512 <= len(data) && i < 64; i++ {
			if sums>>i&1 != 0 {
				sumBlock(data[i*512 : (i+1)*512])
			}
		}
		compareWalks(t, data)
	})
}
