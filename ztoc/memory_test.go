//go:build linux && !race

package ztoc

import (
	"bytes"
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
// memory that takes at most, beyond what the process has before: 16 MiB, and the
// checkpoints that are kept in memory. What the collector has not got to yet is
// in it. All together, with the process itself, it is less than 64 MiB.
func TestMemory(t *testing.T) {
	const most = (16<<20 + checkpointMemory*checkpointChunk*checkpointSize) >> 10
	for _, tc := range []struct {
		what  string
		spans string
	}{
		{"large", "2641"}, // 11 GiB, whose checkpoints take 83 MiB
		{"files", "73"},   // 600,000 files, which take 110 MiB in the ztoc
		{"hostile", "60"}, // names and records of 3 MiB in front of files, in a layer of 400 KiB
		{"links", "91"},   // 250,000 files, each with two hard links
	} {
		t.Run(tc.what, func(t *testing.T) {
			var layer io.Reader
			if write, ok := memoryLayers(1)[tc.what]; ok {
				layer = written(write)
			} else {
				layer = largeLayer(t)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), memoryChild+"="+writeLayer(t, layer), "TMPDIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var kib, all, size int
			var spans string
			if _, err := fmt.Sscan(string(out), &kib, &all, &spans, &size); err != nil {
				t.Fatalf("%v in %q", err, out)
			}
			if kib > most || all > 64<<10 || spans != tc.spans {
				t.Errorf("%d KiB, %d with the process, and %s spans; want at most %d, %d and %s", kib, all, spans, most, 64<<10, tc.spans)
			}
			t.Logf("%d KiB at most for a ztoc of %d bytes, %d with the process", kib, size, all)
		})
	}
}

// buildInChild prints the most memory that the process has had, and what was
// built.
func buildInChild(path string) error {
	layer, err := os.Open(path)
	if err != nil {
		return err
	}
	defer layer.Close()
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
	fmt.Println(most-before, most, r.Spans, r.Size)
	return err
}

// largeLayer is a layer of 11 GiB.
func largeLayer(t *testing.T) io.Reader {
	t.Helper()
	var parts []io.Reader
	for _, p := range []struct {
		name  string
		times int
	}{{"head.gz", 1}, {"zeros.gz", 68}, {"tail.gz", 1}, {"zeros.gz", 108}} {
		data, err := os.ReadFile(filepath.Join("testdata/big", p.name))
		if err != nil {
			t.Fatal(err)
		}
		for range p.times {
			parts = append(parts, bytes.NewReader(data))
		}
	}
	return io.MultiReader(parts...)
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
