package ztoc_test

import (
	"bytes"
	"context"
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
	fmt.Println(r.Size, "bytes,", r.Table.Len(), "span,", r.Entries, "files")
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
