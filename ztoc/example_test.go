package ztoc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sociable/sociable/ztoc"
)

// A layer's bytes go in as they come; nothing is read twice.
func ExampleBuilder() {
	layer, err := os.Open("testdata/inputs/all-types.tar.gz")
	if err != nil {
		panic(err)
	}
	defer layer.Close()
	b, err := ztoc.NewBuilder(ztoc.DefaultSpanSize, ztoc.Options{})
	if err != nil {
		panic(err)
	}
	defer b.Abort() // of no effect after Finish
	if _, err := io.Copy(b, layer); err != nil {
		panic(err)
	}
	r, err := b.Finish()
	if err != nil {
		panic(err)
	}
	defer r.Close()
	fmt.Println(r.Digest)
	fmt.Println(r.Size, "bytes,", r.Spans, "span,", r.Entries, "files")
	// Output:
	// sha256:aae751059bd49c91061b301c00d515a7da65874c2b6166b0543a476f8106e6e8
	// 34920 bytes, 1 span, 11 files
}

// A file is read out of the spans that hold it; the layer may be anywhere.
func ExampleZTOC_Extract() {
	table, err := os.ReadFile("testdata/ztocs/all-types.tar.gz.4096.ztoc")
	if err != nil {
		panic(err)
	}
	layer, err := os.Open("testdata/inputs/all-types.tar.gz")
	if err != nil {
		panic(err)
	}
	defer layer.Close()
	z, err := ztoc.Parse(bytes.NewReader(table), int64(len(table)))
	if err != nil {
		panic(err)
	}
	var file bytes.Buffer
	if _, err := z.Extract(context.Background(), "/usr/hard", layer, &file); err != nil { // a hard link to usr/file.txt
		panic(err)
	}
	first, _ := file.ReadString('\n')
	fmt.Printf("%s%d bytes more\n", first, file.Len())
	// Output:
	// bfirbahyc 686219
	// 69983 bytes more
}

// open reads a zTOC and opens the layer that it is of.
func open(table, layer string) (*ztoc.ZTOC, *os.File) {
	p, err := os.ReadFile(table)
	if err != nil {
		panic(err)
	}
	z, err := ztoc.Parse(bytes.NewReader(p), int64(len(p)))
	if err != nil {
		panic(err)
	}
	f, err := os.Open(layer)
	if err != nil {
		panic(err)
	}
	return z, f
}

// Any part of the uncompressed stream comes out of the span that holds it.
func ExampleZTOC_ReadSpan() {
	z, layer := open("testdata/ztocs/all-types.tar.gz.4096.ztoc", "testdata/inputs/all-types.tar.gz")
	defer layer.Close()
	i, err := z.SpanOf(z.ArchiveSize - 1)
	if err != nil {
		panic(err)
	}
	n, err := z.ReadSpan(context.Background(), i, layer, io.Discard)
	if err != nil {
		panic(err)
	}
	fmt.Printf("span %d of %d has %d bytes of the stream\n", i, z.NumSpans, n)
	// Output:
	// span 1 of 2 has 44175 bytes of the stream
}

// The table says which compressed bytes have to be fetched for a range of the
// layer, and what they hash to.
func ExampleZTOC_Table() {
	z, layer := open("testdata/ztocs/all-types.tar.gz.4096.ztoc", "testdata/inputs/all-types.tar.gz")
	defer layer.Close()
	table, err := z.Table()
	if err != nil {
		panic(err)
	}
	first, last := table.Cover(30_000, 30_100)
	for i := first; i <= last; i++ {
		s := table.Span(i)
		fmt.Printf("span %d: bytes %d-%d, %s\n", i, s.Off, s.End-1, s.Digest)
	}
	// Output:
	// span 1: bytes 27438-41092, sha256:5e3d8420d5530ed860c2e9aa570be3943527b0f86d3d22d8fecb7bc775805ae8
}

// What the official builder makes is not always what clients take.
func ExampleResult_CheckClient() {
	layer, err := os.Open("testdata/inputs/full-flush-start.tar.gz")
	if err != nil {
		panic(err)
	}
	defer layer.Close()
	b, err := ztoc.NewBuilder(ztoc.DefaultSpanSize, ztoc.Options{})
	if err != nil {
		panic(err)
	}
	defer b.Abort()
	if _, err := io.Copy(b, layer); err != nil {
		panic(err)
	}
	r, err := b.Finish()
	if err != nil {
		panic(err)
	}
	defer r.Close()
	var reject *ztoc.RejectError
	if errors.As(r.CheckClient(), &reject) {
		fmt.Println(reject.Reason, "-", reject.Detail)
	}
	// Output:
	// nonmonotonic - span 0 has no uncompressed bytes
}

// A zTOC lists the files of its layer; nothing of the layer is read for that.
func ExampleParse() {
	table, err := os.ReadFile("testdata/ztocs/all-types.tar.gz.4096.ztoc")
	if err != nil {
		panic(err)
	}
	z, err := ztoc.Parse(bytes.NewReader(table), int64(len(table)))
	if err != nil {
		panic(err)
	}
	for e, err := range z.Entries() {
		if err != nil {
			panic(err)
		}
		if e.Type == ztoc.TypeHardlink || e.Type == ztoc.TypeSymlink {
			fmt.Printf("%s %s -> %s\n", e.Type, e.Name, e.Linkname)
		}
	}
	// Output:
	// symlink usr/sym -> file.txt
	// hardlink usr/hard -> usr/file.txt
}

// What is no layer of a kind that can be indexed is told by class and cause.
func ExampleDetect() {
	zstd := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00}
	_, err := ztoc.Detect(zstd)
	var refused *ztoc.Error
	fmt.Println(errors.As(err, &refused) && refused.Class == ztoc.ClassAlgorithm, errors.Is(err, ztoc.ErrUnsupported))
	fmt.Println(err)
	// Output:
	// true true
	// algorithm at offset 0: zstd, neither gzip nor tar: not supported
}
