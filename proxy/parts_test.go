package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPartsOutOfOrder: neighbours among the spans of several ranges are one
// request, in whatever order the ranges come.
func TestPartsOutOfOrder(t *testing.T) {
	layer := tarGz(t, 300)
	for name, parts := range map[string][][2]int{ // first and last span
		"behind, then before": {{20, 20}, {10, 17}},
		"one by one":          {{20, 20}, {10, 10}, {11, 11}, {12, 12}, {13, 13}},
		"backwards":           {{20, 20}, {13, 13}, {12, 12}, {11, 11}, {10, 10}},
		"within another":      {{12, 14}, {10, 17}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			s.do(t, "HEAD", "/v2/up/a/blobs/"+d.String())
			g.take()
			var specs []string
			for _, x := range parts {
				specs = append(specs, fmt.Sprintf("%d-%d", table.Span(x[0]).Off+5, table.Span(x[1]).End-5))
			}
			a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", "bytes="+strings.Join(specs, ","))
			if a.status != 206 || a.err != nil || a.header.Get("X-Cache") != "span" {
				t.Fatalf("%d %s %v", a.status, a.header.Get("X-Cache"), a.err)
			}
			for _, x := range parts {
				if !bytes.Contains(a.body, layer[table.Span(x[0]).Off+5:table.Span(x[1]).End-4]) {
					t.Errorf("spans %v are not in the answer", x)
				}
			}
			most := 2
			if name == "within another" { // on both sides of the first
				most = 3
			}
			if got := g.take(); len(got) > most {
				t.Errorf("%d upstream requests, want at most %d: %q", len(got), most, got)
			}
		})
	}
}

// TestPartsOfTheGrid: so are neighbours of a blob that has no index.
func TestPartsOfTheGrid(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(6<<20, 1)
	d := g.addBlob("a", layer)
	var specs []string
	for i := range 20 {
		specs = append(specs, fmt.Sprintf("%d-%d", 1000+i*cell, 1099+i*cell))
	}
	a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", "bytes="+strings.Join(specs, ","))
	if a.status != 206 || a.err != nil || !bytes.Contains(a.body, layer[1000+19*cell:1100+19*cell]) {
		t.Fatalf("%d %v", a.status, a.err)
	}
	want := []string{"GET blobs 0-262143", "GET blobs 262144-5242879"} // the first tells the size
	if diff := cmp.Diff(want, g.take()); diff != "" {
		t.Errorf("upstream requests (-want +got):\n%s", diff)
	}
}
