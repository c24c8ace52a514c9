package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestOutputFile: a file is replaced once the new one is whole, behind links,
// and keeps its mode.
func TestOutputFile(t *testing.T) {
	want := readFile(t, "../../ztoc/testdata/ztocs/all-types.tar.gz.4096.ztoc")
	build := func(out string) (int, string) {
		code, _, errs := command("ztoc", "build", inputs+"all-types.tar.gz", "--span-size", "4KiB", "-o", out)
		return code, errs
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("private"), "old") // 0600
	for link, to := range map[string]string{"link": "private", "dangling": "sub/new", "chain": "dangling"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at("sub"), 0o750); err != nil {
		t.Fatal(err)
	}
	plain, err := os.OpenFile(at("plain"), os.O_CREATE, 0o666) // as the umask has it
	if err != nil {
		t.Fatal(err)
	}
	plain.Close()
	usual := mode(t, at("plain")).Perm()
	for _, tc := range []struct {
		out, file string
		mode      fs.FileMode
	}{
		{"link", "private", 0o600}, {"chain", "sub/new", usual}, {"fresh", "fresh", usual},
	} {
		if code, errs := build(at(tc.out)); code != exitOK {
			t.Fatalf("%s: exit %d, %s", tc.out, code, errs)
		}
		if !bytes.Equal(readFile(t, at(tc.file)), want) || mode(t, at(tc.file)) != tc.mode {
			t.Errorf("%s: %s has mode %s, want %s and the zTOC", tc.out, tc.file, mode(t, at(tc.file)), tc.mode)
		}
		if tc.out != tc.file && mode(t, at(tc.out))&fs.ModeSymlink == 0 {
			t.Errorf("the link %s was replaced", tc.out)
		}
	}
	for _, tc := range []struct {
		out, want string
		code      int
	}{
		{dir, "is a folder", exitFailed},
		{at("none/x"), "there is no folder", exitFailed},
		{"", "name of the output is empty", exitUsage},
		{at("private/x"), "not a directory", exitFailed},
	} {
		if code, errs := build(tc.out); code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("%s: exit %d, %s; want %d, %s", tc.out, code, errs, tc.code, tc.want)
		}
	}
	left, err := filepath.Glob(at(".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode()
}

// TestOutputIsInput: what would be read is not written to, whatever it is called.
func TestOutputIsInput(t *testing.T) {
	dir := t.TempDir()
	layer, file := filepath.Join(dir, "layer"), filepath.Join(dir, "ztoc")
	if err := os.WriteFile(layer, readFile(t, inputs+"zlib-6.tar.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(layer, filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	expect(t, "ztoc", "build", layer, "-o", file)
	for _, args := range [][]string{
		{"build", layer, "-o", layer},
		{"build", layer, "-o", filepath.Join(dir, "other")},
		{"get-file", file, "x", "--layer", layer, "-o", layer},
		{"get-file", file, "x", "--layer", layer, "-o", file},
	} {
		if code, _, errs := command(append([]string{"ztoc"}, args...)...); code != exitFailed || !strings.Contains(errs, "is the input") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	stdin, err := os.Open(layer)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	cmd := exec.CommandContext(t.Context(), "sociable", "ztoc", "build", "-", "-o", layer)
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "is the input -") {
		t.Errorf("standard input: %v, %s", err, out)
	}
	if !bytes.Equal(readFile(t, layer), readFile(t, inputs+"zlib-6.tar.gz")) {
		t.Error("the layer was written to")
	}
}

// TestOutputNoFile: a pipe is written to, and stays; standard output has many names.
func TestOutputNoFile(t *testing.T) {
	want := readFile(t, "../../ztoc/testdata/ztocs/all-types.tar.gz.4096.ztoc")
	dir := t.TempDir()
	fifo, stdout := filepath.Join(dir, "fifo"), filepath.Join(dir, "stdout")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/fd/1", stdout); err != nil {
		t.Fatal(err)
	}
	args := []string{"ztoc", "build", inputs + "all-types.tar.gz", "--span-size", "4KiB", "-o"}
	const line = "sha256:c8243d620a7a5b27a922820c93f7cbe9962cdcb4899338c70627f97d45408129 67784 2\n"

	read := make(chan []byte, 1)
	go func() { // ends when the command has closed the pipe
		p, _ := os.ReadFile(fifo)
		read <- p
	}()
	if got := expect(t, append(args, fifo)...); got != line {
		t.Errorf("to a pipe: %q", got)
	}
	if got := <-read; !bytes.Equal(got, want) || mode(t, fifo)&fs.ModeNamedPipe == 0 {
		t.Errorf("%d bytes in the pipe, want %d; it is %s", len(got), len(want), mode(t, fifo))
	}
	if code, out, errs := command(append(args, "-")...); code != exitOK || out != string(want) || errs != line {
		t.Errorf("to standard output: exit %d, %d bytes, %q", code, len(out), errs)
	}
	// The same by its name, be standard output a pipe or a file.
	file := filepath.Join(dir, "file")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, to := range []string{"pipe", "file"} {
		cmd := exec.CommandContext(t.Context(), "sociable", append(args, stdout)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if to == "file" {
			cmd.Stdout = f
		}
		err := cmd.Run()
		got := out.Bytes()
		if to == "file" {
			got = readFile(t, file)
		}
		if err != nil || !bytes.Equal(got, want) || errs.String() != line {
			t.Errorf("to standard output by name, a %s: %v, %d bytes, %q", to, err, len(got), &errs)
		}
	}
	if code, _, errs := command(append(args, "-", "--json")...); code != exitUsage || !strings.Contains(errs, "--json goes with -o FILE") {
		t.Errorf("both on standard output: exit %d, %s", code, errs)
	}
}

// TestOutputGetFile: the record of what was written, and whose fault is told.
func TestOutputGetFile(t *testing.T) {
	dir := t.TempDir()
	file, out := filepath.Join(dir, "ztoc"), filepath.Join(dir, "out")
	layer := inputs + "text-13m.tar.gz"
	expect(t, "ztoc", "build", layer, "-o", file, "--span-size", "1MiB")
	name := someFile(t, file)
	var got GotFile
	if err := json.Unmarshal([]byte(expect(t, "ztoc", "get-file", file, name, "--layer", layer, "-o", out, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	content := readFile(t, out)
	if want := (GotFile{name, out, int64(len(content)), digest.FromBytes(content)}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--layer", layer, "--json"}, `{"error":{"message":"--json goes with -o FILE`, exitUsage},
		{[]string{"--layer", inputs + "zlib-6.tar.gz", "-o", out}, "sociable: extract " + name, exitFailed},
		{[]string{"--layer", fifo, "-o", out}, fifo + " is no regular file", exitFailed},
		{[]string{"--layer", dir, "-o", out}, dir + " is a folder, not a layer", exitFailed},
		{[]string{"--layer", filepath.Join(dir, "none"), "-o", out}, "no such file", exitFailed},
	} {
		code, stdout, errs := command(append([]string{"ztoc", "get-file", file, name}, tc.args...)...)
		if code != tc.code || stdout != "" || !strings.Contains(errs, tc.want) {
			t.Errorf("%v: exit %d, %q, %q; want %d, %q", tc.args, code, stdout, errs, tc.code, tc.want)
		}
	}
	if !bytes.Equal(readFile(t, out), content) {
		t.Error("a failure has changed the file")
	}
}
