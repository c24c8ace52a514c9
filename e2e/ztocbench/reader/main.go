// Command reader makes the zTOC of a layer of 10 GB, and reads it: all that
// `ztoc info` shows, or one file; or tells how long the end of its build takes.
// Of reading it tells the microseconds and the bytes of the zTOC that it took.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sociable/sociable/e2e/ztocbench/peak"
	"github.com/sociable/sociable/ztoc"
)

const (
	files    = 50_000
	fileSize = 200 << 10
)

func main() {
	var err error
	switch os.Args[1] {
	case "make":
		err = makeLarge(os.Args[2], os.Args[3])
	case "finish":
		err = finish(os.Args[2])
	case "info":
		err = info(os.Args[2])
	case "get":
		err = get(os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	peak.Tell()
}

// makeLarge writes a layer of 50,000 files of 200 KiB, and its zTOC. Each header
// and each content is a gzip member, so that content is compressed once.
func makeLarge(ztocPath, layerPath string) error {
	layer, err := os.Create(layerPath)
	if err != nil {
		return err
	}
	defer layer.Close()
	b, err := ztoc.NewBuilder(ztoc.DefaultSpanSize, ztoc.Options{})
	if err != nil {
		return err
	}
	defer b.Abort()
	content := member(make([]byte, fileSize))
	w := io.MultiWriter(layer, b)
	for i := range files {
		var head bytes.Buffer
		h := tar.Header{Name: name(i), Size: fileSize, Mode: 0o644, Uname: "root", Gname: "root"}
		if err := tar.NewWriter(&head).WriteHeader(&h); err != nil {
			return err
		}
		if _, err := w.Write(append(member(head.Bytes()), content...)); err != nil {
			return err
		}
	}
	if _, err := w.Write(member(make([]byte, 1024))); err != nil {
		return err
	}
	r, err := b.Finish()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it has been written
	f, err := os.Create(ztocPath)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := r.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// finish builds the zTOC of the layer once more and prints how long it took from
// the last byte on, in microseconds.
func finish(layerPath string) error {
	layer, err := os.Open(layerPath)
	if err != nil {
		return err
	}
	defer layer.Close()
	b, err := ztoc.NewBuilder(ztoc.DefaultSpanSize, ztoc.Options{})
	if err != nil {
		return err
	}
	defer b.Abort()
	if _, err := io.Copy(b, layer); err != nil {
		return err
	}
	last := time.Now()
	r, err := b.Finish()
	if err != nil {
		return err
	}
	fmt.Println(time.Since(last).Microseconds())
	return r.Close()
}

func name(i int) string {
	return fmt.Sprintf("usr/lib/large/%03d/some-library-%05d.so.1.2.3", i/100, i)
}

func member(p []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(p) // to memory
	_ = w.Close()
	return b.Bytes()
}

// counted counts the bytes that are read.
type counted struct {
	*os.File
	read int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(p, off)
	c.read += int64(n)
	return n, err
}

func open(path string) (*ztoc.ZTOC, *counted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	c := &counted{File: f}
	z, err := ztoc.Parse(c, fi.Size())
	return z, c, err
}

// info reads all entries and their spans.
func info(path string) error {
	begin := time.Now()
	z, f, err := open(path)
	if err != nil {
		return err
	}
	multi := 0
	for e, err := range z.Entries() {
		if err != nil {
			return err
		}
		first, err := z.SpanOf(e.Offset)
		if err != nil {
			return err
		}
		last, err := z.SpanOf(e.Offset + e.Size)
		if err != nil {
			return err
		}
		if first != last {
			multi++
		}
	}
	fmt.Printf("%d %d : %d files, %d spans, %d files in more than one\n", time.Since(begin).Microseconds(), f.read, z.NumEntries, z.NumSpans, multi)
	return nil
}

// get reads a file from the middle.
func get(path, layerPath string) error {
	begin := time.Now()
	z, f, err := open(path)
	if err != nil {
		return err
	}
	layer, err := os.Open(layerPath)
	if err != nil {
		return err
	}
	defer layer.Close()
	n, err := z.Extract(context.Background(), name(files/2), layer, io.Discard)
	if err == nil && n != fileSize {
		err = fmt.Errorf("got %d bytes", n)
	}
	fmt.Printf("%d %d : %d bytes\n", time.Since(begin).Microseconds(), f.read, n)
	return err
}
