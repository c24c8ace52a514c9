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
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
)

// memoryLayers are tars that a build has much to remember of. part makes them
// smaller, though not so small that nothing is spilled.
func memoryLayers(part int) map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{
		"files":   func(w io.Writer) error { return manyFiles(w, 600_000/part) },
		"hostile": func(w io.Writer) error { return hostile(w, 20/part) },
		"links":   func(w io.Writer) error { return manyLinks(w, 250_000/part) },
	}
}

// TestLiveMemory builds while the collector runs all the time, and looks at what
// it finds in use, which is what a build needs, checkpoints in memory included.
func TestLiveMemory(t *testing.T) {
	const most = 16 << 20
	part := 4
	if raceEnabled {
		part = 20
	}
	for what, write := range memoryLayers(part) {
		t.Run(what, func(t *testing.T) {
			f, err := os.Open(writeLayer(t, written(write)))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			liveMemory() // what earlier builds left in pools is gone with the second
			before := liveMemory()
			done, peak := make(chan struct{}), make(chan uint64)
			go func() {
				var p uint64
				for {
					select {
					case <-done:
						peak <- p
						return
					default:
						p = max(p, liveMemory())
					}
				}
			}()
			r, err := build(f, DefaultSpanSize, Options{SpillDir: t.TempDir()})
			close(done)
			p := <-peak
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if used := int64(p) - int64(before); used > most || used < 2*tapeMemory*tapeChunk {
				t.Errorf("%d bytes in use at most, want %d or less", used, most)
			} else {
				t.Logf("%d KiB in use at most, for a ztoc of %d bytes", used>>10, r.Size)
			}
		})
	}
}

// writeLayer writes a layer to a file.
func writeLayer(t *testing.T, layer io.Reader) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "layer")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, layer)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// liveMemory is how many bytes of memory are in use.
func liveMemory() uint64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// manyFiles writes a tar of n empty files.
func manyFiles(w io.Writer, n int) error {
	tw := tar.NewWriter(w)
	for i := range n {
		h := tar.Header{Name: fmt.Sprintf("usr/share/some/where/%06d/a-file-with-a-name-of-common-length.txt", i), Uname: "root", Gname: "root"}
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
	}
	return tw.Close()
}

// written is what fn writes, compressed.
func written(fn func(io.Writer) error) io.Reader {
	r, w := io.Pipe()
	go func() {
		gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err == nil {
			err = errors.Join(fn(gz), gz.Close())
		}
		w.CloseWithError(err)
	}()
	return r
}

// hostile writes n files of each kind with as much in front of them as may be.
func hostile(w io.Writer, n int) error {
	long := strings.Repeat("n", maxSpecial-100)
	var many bytes.Buffer
	for i := 0; many.Len() < maxSpecial-7; i++ {
		many.Write([]byte{'7', ' ', byte(0x80 + i%100), byte(0x80 + i/100%100), byte(0x80 + i/10000), '=', '\n'})
	}
	zeros := strings.Repeat("0,", maxSpecial/2-100)
	var lines strings.Builder
	fmt.Fprintf(&lines, "%d\n%s", maxSpecial/4-100, strings.Repeat("0\n", 2*(maxSpecial/4-100)))
	inFront := string(pad(lines.String()))
	files := [][]byte{
		bytes.Join([][]byte{special('L', long), special('K', long), pax("comment", long), special('0', "")}, nil),
		bytes.Join([][]byte{special('L', long), special('K', long), special('x', many.String()), special('0', "")}, nil),
		bytes.Join([][]byte{special('L', long), special('K', long), pax(sparseMajor, "0", sparseMinor, "1",
			sparseNumBlocks, strconv.Itoa(maxSpecial/4-50), sparseMap, zeros[:len(zeros)-1]), special('0', "")}, nil),
		bytes.Join([][]byte{special('L', long), special('K', long), pax(sparseMajor, "1", sparseMinor, "0"), special('0', inFront)}, nil),
	}
	var err error
	for range n {
		for _, f := range files {
			_, werr := w.Write(f)
			err = errors.Join(err, werr)
		}
	}
	_, werr := w.Write(make([]byte, 2*tarBlock))
	return errors.Join(err, werr)
}

// manyLinks writes n files and, behind them all, hard links to them.
func manyLinks(w io.Writer, n int) error {
	tw := tar.NewWriter(w)
	for k := range 3 {
		for i := range n {
			h := tar.Header{Name: fmt.Sprintf("nix/store/.links/%07d-%d", i, k)}
			if k > 0 {
				h.Typeflag, h.Linkname = tar.TypeLink, fmt.Sprintf("nix/store/.links/%07d-%d", i, k-1)
			}
			if err := tw.WriteHeader(&h); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}
