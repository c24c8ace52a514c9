// Command ztocbench compares the zTOC builder with the official one, on real
// layers: Debian's own binaries, the Go tool chain, source text, pictures. Each
// build runs in a process of its own, the two in turn, several times; the best
// of each counts. It prints a table and fails when a figure is missed or the two
// builders disagree on a single byte. From the folder of the e2e module:
//
//	go run ./ztocbench -o ../docs/benchmarks.md
//
// It needs apt-get, dpkg-deb, gzip, pigz and xz, and for the official builder a C
// compiler and Debian's zlib1g-dev.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

// cache is where layers are made and kept, in the folder of the e2e module.
const cache = ".cache/ztocbench"

func main() {
	runs := flag.Int("runs", 5, "runs of each build")
	prepare := flag.Bool("prepare", false, "make the layers and the programs, and measure nothing")
	out := flag.String("o", "", "also write the table to this file, in place of its section on the zTOC builder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *prepare {
		*runs = 0
	}
	if err := run(ctx, ".", *runs, *out, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ztocbench:", err)
		os.Exit(1)
	}
}

// run measures and writes the table to w. e2e is the folder of the e2e module.
func run(ctx context.Context, e2e string, runs int, out string, w io.Writer) error {
	dir, err := filepath.Abs(filepath.Join(e2e, cache))
	if err != nil {
		return err
	}
	layers, err := makeLayers(ctx, dir)
	if err != nil {
		return err
	}
	bins, err := buildPrograms(ctx, e2e, dir)
	if err != nil {
		return err
	}
	if runs == 0 {
		return makeLarge(ctx, bins, filepath.Join(dir, "large.ztoc"), filepath.Join(dir, "large.tar.gz.layer"))
	}
	r, err := measure(ctx, e2e, bins, layers, runs)
	if err != nil {
		return err
	}
	text, missed := r.table(ctx)
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if out != "" {
		if err := replaceSection(out, text); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d figures missed", missed)
	}
	return nil
}
