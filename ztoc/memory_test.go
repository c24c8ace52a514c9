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

// TestMemory builds layers in a process of their own and looks at the most
// memory that it has had, all of the program included.
func TestMemory(t *testing.T) {
	for _, tc := range []struct {
		what  string
		limit int // KiB
		spans string
	}{
		{"large", 32 << 10, "2641"}, // 11 GiB, whose checkpoints take 83 MiB
		{"files", 40 << 10, "73"},   // 600,000 files, which take 110 MiB in the ztoc
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
		r, w := io.Pipe()
		go func() { w.CloseWithError(manyFiles(w, 600_000)) }()
		layer = r
	}
	r, err := build(layer, DefaultSpanSize, Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	if n, err := r.WriteTo(io.Discard); err != nil || n != r.Size {
		return errors.Join(fmt.Errorf("wrote %d of %d bytes", n, r.Size), err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, most, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println(strings.Fields(most)[0], r.Table.Len(), r.Size)
	return nil
}

// manyFiles writes a gzipped tar of n empty files.
func manyFiles(w io.Writer, n int) error {
	gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(gz)
	for i := range n {
		h := tar.Header{Name: fmt.Sprintf("usr/share/some/where/%06d/a-file-with-a-name-of-common-length.txt", i), Uname: "root", Gname: "root"}
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return gz.Close()
}
