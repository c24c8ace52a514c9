// Command ztocbench compares the zTOC builder with the official one, on real
// layers: Debian's own binaries, the Go tool chain, source text, pictures. Each
// build runs in a process of its own, the two in turn, several times; the best
// of each counts. It prints a table and fails when a figure is missed or the two
// builders disagree on a single byte.
//
// It needs apt-get, dpkg-deb, gzip, pigz and xz, and for the official builder a C
// compiler and Debian's zlib1g-dev.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	dir := flag.String("dir", ".cache/ztocbench", "where layers are made and kept")
	runs := flag.Int("runs", 5, "runs of each build")
	out := flag.String("o", "", "also write the table to this file, in place of its section on the zTOC builder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, *runs, *out); err != nil {
		fmt.Fprintln(os.Stderr, "ztocbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, runs int, out string) error {
	layers, err := makeLayers(ctx, dir)
	if err != nil {
		return err
	}
	bins, err := buildPrograms(ctx, dir)
	if err != nil {
		return err
	}
	r, err := measure(ctx, bins, layers, runs)
	if err != nil {
		return err
	}
	text, missed := r.table(ctx)
	fmt.Print(text)
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
