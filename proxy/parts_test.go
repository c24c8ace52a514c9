package proxy

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
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

// TestPartsOfOneSpan: parts of one request that lie in one span, for which a full
// store has no room, cost that span once, in whatever order they come.
func TestPartsOfOneSpan(t *testing.T) {
	layer := tarGz(t, 60)
	g := newRegistry(t)
	s := newFullServer(t, g, 1000, nil)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	s.do(t, "HEAD", path) // the right
	g.take()
	two, three, four := table.Span(2), table.Span(3), table.Span(4)
	for name, tt := range map[string]struct {
		parts [][2]int64 // off, end
		asked []ztoc.Span
	}{
		"in order":             {[][2]int64{{two.Off, two.Off + 10}, {two.Off + 20, two.Off + 30}, {two.End - 10, two.End}}, []ztoc.Span{two}},
		"backwards":            {[][2]int64{{two.Off + 90, two.Off + 99}, {two.Off + 40, two.Off + 50}, {two.Off + 5, two.Off + 25}}, []ztoc.Span{two}},
		"with another between": {[][2]int64{{two.Off + 5, two.Off + 9}, {four.Off + 5, four.Off + 9}, {two.Off + 20, two.Off + 30}, {four.Off + 1, four.Off + 2}}, []ztoc.Span{two, four}},
		"on into the next":     {[][2]int64{{two.Off + 5, two.Off + 9}, {two.End - 10, three.Off + 10}, {three.Off + 20, three.Off + 30}}, []ztoc.Span{two, three}},
		"overlapping":          {[][2]int64{{two.Off + 5, two.Off + 9}, {two.Off + 10, two.Off + 90}, {two.Off + 20, two.Off + 30}, {two.Off + 20, two.Off + 30}}, []ztoc.Span{two}},
	} {
		t.Run(name, func(t *testing.T) {
			var specs, asked []string
			for _, x := range tt.parts {
				specs = append(specs, fmt.Sprintf("%d-%d", x[0], x[1]-1))
			}
			for _, sp := range tt.asked {
				asked = append(asked, fmt.Sprintf("GET blobs %d-%d", sp.Off, sp.End-1))
			}
			a := s.do(t, "GET", path, "Range", "bytes="+strings.Join(specs, ","))
			if a.status != 206 || a.err != nil {
				t.Fatalf("%d %v", a.status, a.err)
			}
			_, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
			if err != nil {
				t.Fatal(err)
			}
			parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
			for i, x := range tt.parts {
				part, err := parts.NextPart()
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(part); err != nil || !bytes.Equal(body, layer[x[0]:x[1]]) {
					t.Errorf("part %d is wrong: %d bytes, %v", i, len(body), err)
				}
			}
			if diff := cmp.Diff(asked, g.take()); diff != "" {
				t.Errorf("upstream requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAsideIsLittle: of later parts no more is kept in memory than is little.
func TestAsideIsLittle(t *testing.T) {
	s := &spanSource{}
	for off := int64(0); off < 4*maxAside; off += maxAside / 4 {
		s.unsent = append(s.unsent, oci.Range{Off: off, End: off + maxAside/4 + 1})
	}
	s.unsent = append(s.unsent, oci.Range{Off: 7, End: 9})
	for n, want := range []int{4, 0, 1} { // three parts and the little one, nothing more, one that was sent makes room
		got := s.wantAside(ztoc.Span{Off: 0, End: 4 * maxAside})
		if len(got) != want {
			t.Errorf("%d pieces the %d. time, want %d", len(got), n+1, want)
		}
		for _, x := range got {
			x.body = x.body[:x.Len()]
		}
		if s.aside = append(s.aside, got...); n == 1 {
			s.fromAside(s.unsent[0])
			s.unsent = s.unsent[1:]
		}
	}
}
