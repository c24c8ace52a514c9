package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	kgzip "github.com/klauspost/compress/gzip"
)

// layer is a compressed layer on disk.
type layer struct {
	name  string // of the file
	what  string
	path  string
	plain int64 // uncompressed bytes
	size  int64
}

// content is what a layer is made of.
type content struct {
	name, what string
	packages   []string
	tree       func(ctx context.Context, dir string) (string, error) // instead of packages
	compress   func(ctx context.Context, from, to string) error
}

// contents are the layers that are measured. The last is the first again, not
// compressed but in gzip's form.
var contents = []content{
	{"binaries", "system binaries, gzip -6", binaries, nil, tool("gzip", "-6", "-n", "-c")},
	{"toolchain", "Go tool chain, pigz -6", nil, goTree, tool("pigz", "-6", "-n", "-p", "2", "-c")},
	{"text", "C sources, Go's compress/gzip", []string{"glibc-source"}, nil, library(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })},
	{"media", "pictures, klauspost/compress", []string{"plasma-workspace-wallpapers", "gnome-backgrounds", "mate-backgrounds"}, nil, library(func(w io.Writer) io.WriteCloser { return kgzip.NewWriter(w) })},
	{"stored", "system binaries, level 0", binaries, nil, library(stored)},
}

var binaries = []string{"libllvm14", "libreoffice-core", "gcc-12", "cpp-12", "git", "perl-modules-5.36"}

func stored(w io.Writer) io.WriteCloser {
	z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
	if err != nil {
		panic(err) // the level is one of gzip's
	}
	return z
}

// makeLayers makes the layers that are not in dir yet.
func makeLayers(ctx context.Context, dir string) ([]layer, error) {
	var ls []layer
	for _, c := range contents {
		plain := filepath.Join(dir, c.name+".tar")
		if err := once(plain, func(to string) error { return c.tar(ctx, dir, to) }); err != nil {
			return nil, fmt.Errorf("layer %s: %w", c.name, err)
		}
		packed := plain + ".gz"
		if err := once(packed, func(to string) error { return c.compress(ctx, plain, to) }); err != nil {
			return nil, fmt.Errorf("compress layer %s: %w", c.name, err)
		}
		l := layer{name: c.name, what: c.what, path: packed}
		var err error
		if l.plain, err = sizeOf(plain); err != nil {
			return nil, err
		}
		if l.size, err = sizeOf(packed); err != nil {
			return nil, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func sizeOf(path string) (int64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// once makes a file under another name and gives it its own when it is whole.
func once(path string, make func(to string) error) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	if err := make(part); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// tar makes the uncompressed layer.
func (c content) tar(ctx context.Context, dir, to string) error {
	root := filepath.Join(dir, "root-"+c.name)
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }() // it is in the tar
	if c.tree != nil {
		src, err := c.tree(ctx, dir)
		if err != nil {
			return err
		}
		return writeTar(src, to)
	}
	for _, name := range c.packages {
		if err := unpack(ctx, dir, name, root); err != nil {
			return err
		}
	}
	return writeTar(root, to)
}

// goTree is where the running tool chain is.
func goTree(ctx context.Context, _ string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
}

// unpack fetches a Debian package and unpacks it, and the archive of sources
// that it may hold.
func unpack(ctx context.Context, dir, name, root string) error {
	debs := filepath.Join(dir, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	find := func() string {
		found, _ := filepath.Glob(filepath.Join(debs, name+"_*.deb"))
		return strings.Join(found, "")
	}
	if find() == "" {
		if err := command(ctx, debs, "apt-get", "-q", "download", name); err != nil {
			return err
		}
	}
	if err := command(ctx, "", "dpkg-deb", "-x", find(), root); err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(root, "usr/src/*/*.tar.xz"))
	if err != nil {
		return err
	}
	for _, s := range sources {
		if err := command(ctx, "", "tar", "-C", filepath.Dir(s), "-xJf", s); err != nil {
			return err
		}
		if err := os.Remove(s); err != nil {
			return err
		}
	}
	return nil
}

func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// writeTar writes a tree as a layer has it: root's, sorted, with hard links left
// out, for they are copies on the way here.
func writeTar(root, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		return addFile(w, root, path, d)
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func addFile(w *tar.Writer, root, path string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(root, path); err != nil {
		return err
	}
	if fi.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname, h.Uid, h.Gid = "root", "root", 0, 0
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// tool compresses with a program that writes to its standard output.
func tool(name string, args ...string) func(context.Context, string, string) error {
	return func(ctx context.Context, from, to string) error {
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		defer f.Close()
		cmd := exec.CommandContext(ctx, name, append(args, from)...)
		cmd.Stdout, cmd.Stderr = f, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return f.Close()
	}
}

// library compresses with a package.
func library(open func(io.Writer) io.WriteCloser) func(context.Context, string, string) error {
	return func(_ context.Context, from, to string) error {
		src, err := os.Open(from)
		if err != nil {
			return err
		}
		defer src.Close()
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		defer f.Close()
		z := open(f)
		if _, err := io.Copy(z, src); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		return f.Close()
	}
}
