//go:build linux && !race

package ztoc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// memoryChild is set in the process that TestMemory starts to build in.
const memoryChild = "ZTOC_MEMORY_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(memoryChild); what != "" {
		if err := buildInChild(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestMemory builds layers in a process of their own and looks at how much
// memory that takes at most, beyond what the process has before. What the
// collector has not got to yet is in it: it is 16 MiB, and the checkpoints that
// are kept in memory, where nothing is done to make it more.
func TestMemory(t *testing.T) {
	const checkpoints = checkpointMemory * checkpointChunk * checkpointSize >> 10
	for _, tc := range []struct {
		what  string
		limit int // KiB
		spans string
	}{
		{"large", 16<<10 + checkpoints, "2641"}, // 11 GiB, whose checkpoints take 83 MiB
		{"files", 16<<10 + checkpoints, "73"},   // 600,000 files, which take 110 MiB in the ztoc
		{"records", 40 << 10, "52"},             // 70 files with names and records of 3 MiB, in a layer of 300 KiB
		{"links", 48 << 10, "91"},               // 250,000 files, each with two hard links
	} {
		t.Run(tc.what, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), memoryChild+"="+tc.what, "TMPDIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var kib, size int
			var spans string
			if _, err := fmt.Sscan(string(out), &kib, &spans, &size); err != nil {
				t.Fatalf("%v in %q", err, out)
			}
			if kib > tc.limit || spans != tc.spans {
				t.Errorf("%d KiB and %s spans, want at most %d and %s", kib, spans, tc.limit, tc.spans)
			}
			t.Logf("%d KiB at most for a ztoc of %d bytes", kib, size)
		})
	}
}

// buildInChild prints the most memory that the process has had, and what was
// built.
func buildInChild(what string) error {
	var layer io.Reader
	switch what {
	case "large":
		var parts []io.Reader
		for _, p := range []struct {
			name  string
			times int
		}{{"head.gz", 1}, {"zeros.gz", 68}, {"tail.gz", 1}, {"zeros.gz", 108}} {
			data, err := os.ReadFile(filepath.Join("testdata/big", p.name))
			if err != nil {
				return err
			}
			for range p.times {
				parts = append(parts, bytes.NewReader(data))
			}
		}
		layer = io.MultiReader(parts...)
	case "files":
		layer = written(func(w io.Writer) error { return manyFiles(w, 600_000) })
	case "records":
		layer = written(longRecords)
	case "links":
		layer = written(manyLinks)
	}
	before, err := mostMemory()
	if err != nil {
		return err
	}
	r, err := build(layer, DefaultSpanSize, Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	if n, err := r.WriteTo(io.Discard); err != nil || n != r.Size {
		return errors.Join(fmt.Errorf("wrote %d of %d bytes", n, r.Size), err)
	}
	most, err := mostMemory()
	fmt.Println(most-before, r.Table.Len(), r.Size)
	return err
}

// mostMemory is the most memory that the process has had, in KiB.
func mostMemory() (kib int, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		_, most, _ := strings.Cut(string(status), "VmHWM:")
		_, err = fmt.Sscan(most, &kib)
	}
	return kib, err
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

// longRecords writes files with as much in front of each as may be.
func longRecords(w io.Writer) error {
	long := strings.Repeat("n", maxSpecial-100)
	special := func(flag byte, content string) []byte {
		h := make([]byte, tarBlock, 2*tarBlock+len(content))
		copy(h, "x")
		copy(h[124:], fmt.Sprintf("%011o", len(content)))
		h[156] = flag
		copy(h[257:], "ustar\x0000")
		sum, _ := blockSums(h)
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		h = append(h, content...)
		return append(h, make([]byte, -len(content)&(tarBlock-1))...)
	}
	record := fmt.Sprintf("%d comment=%s\n", len(long)+17, long)
	file := bytes.Join([][]byte{special('L', long), special('K', long), special('x', record), special('0', "")}, nil)
	var err error
	for range 70 {
		_, werr := w.Write(file)
		err = errors.Join(err, werr)
	}
	_, werr := w.Write(make([]byte, 2*tarBlock))
	return errors.Join(err, werr)
}

// manyLinks writes files and, behind them all, hard links to them.
func manyLinks(w io.Writer) error {
	tw := tar.NewWriter(w)
	for k := range 3 {
		for i := range 250_000 {
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
