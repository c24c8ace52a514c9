// Command make makes a big store; see package bigstore.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/sociable/sociable/e2e/bigstore"
)

func main() {
	s := bigstore.Years
	data := flag.String("data", "", "`FOLDER` to make the store in; required")
	flag.IntVar(&s.Images, "images", s.Images, "images")
	flag.IntVar(&s.Spans, "spans", s.Spans, "spans in all")
	flag.Parse()
	if *data == "" || flag.NArg() > 0 || s.Images < 1 || s.Spans < s.Images {
		flag.Usage()
		os.Exit(2)
	}
	err := bigstore.Generate(context.Background(), *data, s, func(n int) { fmt.Fprintf(os.Stderr, "\r%d images", n) })
	fmt.Fprintln(os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bigstore:", err)
		os.Exit(1)
	}
	fmt.Printf("There are rows and no bytes, so nothing of it can be pulled. Look at it with\n  SOCIABLE_STORAGE_MAX_BYTES=100TiB sociable serve --data %s\n", *data)
}
