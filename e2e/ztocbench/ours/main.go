// Command ours builds the zTOC of a layer with the product's builder and prints
// its digest. It holds nothing else, so that its memory is the builder's.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/sociable/sociable/e2e/ztocbench/peak"
	"github.com/sociable/sociable/ztoc"
)

func main() {
	diffID := flag.Bool("diffid", false, "compute the diffID too")
	digest := flag.Bool("digest", false, "compute the layer's digest too")
	hash := flag.Bool("sha256", false, "print the sha256 of the layer instead, which is the least that any builder does")
	flag.Parse()
	if *hash {
		if err := hashAlone(flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		peak.Tell()
		return
	}
	if err := run(flag.Arg(0), ztoc.Options{DiffID: *diffID, SkipLayerDigest: !*digest}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	peak.Tell()
}

func run(path string, o ztoc.Options) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := ztoc.NewBuilder(ztoc.DefaultSpanSize, o)
	if err != nil {
		return err
	}
	defer b.Abort()
	if _, err := io.Copy(b, f); err != nil {
		return err
	}
	r, err := b.Finish()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it has been written
	if _, err := r.WriteTo(io.Discard); err != nil {
		return err
	}
	fmt.Println(r.Digest, r.Size)
	return nil
}

// hashAlone reads the file as the builder does, and does nothing but hash it.
func hashAlone(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 256<<10)); err != nil {
		return err
	}
	fmt.Printf("%x\n", h.Sum(nil))
	return nil
}
