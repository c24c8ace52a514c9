// Command official builds the zTOC of a layer with the official library and
// prints its digest.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/awslabs/soci-snapshotter/ztoc"

	"github.com/sociable/sociable/e2e/ztocbench/peak"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	peak.Tell()
}

func run(path string) error {
	z, err := ztoc.NewBuilder("AWS SOCI CLI v0.2").BuildZtoc(path, 4<<20)
	if err != nil {
		return err
	}
	r, desc, err := ztoc.Marshal(z)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	fmt.Println(desc.Digest, desc.Size)
	return nil
}
