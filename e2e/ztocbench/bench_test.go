package main

import (
	"os"
	"testing"
)

// BenchmarkZTOC is the command with few runs; it measures once, whatever b.N is.
func BenchmarkZTOC(b *testing.B) {
	if err := run(b.Context(), "..", 3, "", os.Stdout); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op") // the table has the figures
}
