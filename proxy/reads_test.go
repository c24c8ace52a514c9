package proxy

import (
	"fmt"
	"slices"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestReadsAreNoted: which spans of a layer clients read is known afterwards, also
// where the layer was never whole here, and so is how often an image was pulled.
func TestReadsAreNoted(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := tarGz(t, 60)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	m := g.addManifest("a", "1", v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`, v1.MediaTypeImageManifest, v1.DescriptorEmptyJSON.Digest))
	for _, i := range []int{1, 2, 5} {
		sp := table.Span(i)
		rg := fmt.Sprintf("bytes=%d-%d", sp.Off+1, sp.End-2)
		if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", rg); a.status != 206 {
			t.Fatalf("span %d: %d", i, a.status)
		}
	}
	for _, method := range []string{"GET", "HEAD", "GET"} {
		if a := s.do(t, method, "/v2/up/a/manifests/1"); a.status != 200 {
			t.Fatalf("%s of the manifest: %d %s", method, a.status, a.body)
		}
	}
	if a := s.do(t, "GET", "/v2/up/a/manifests/1", "User-Agent", oci.DoctorAgent); a.status != 200 {
		t.Fatalf("the doctor's manifest: %d %s", a.status, a.body)
	}
	one, other := table.Span(3), table.Span(4)
	for _, rg := range []string{fmt.Sprintf("bytes=%d-%d", one.Off, one.End-1), fmt.Sprintf("bytes=%d-%d,%d-%d", one.Off, one.Off+1, other.Off+1, other.Off+2)} {
		if a := s.do(t, "GET", "/v2/up/a/blobs/"+d.String(), "Range", rg, "User-Agent", oci.DoctorAgent); a.status != 206 {
			t.Fatalf("the doctor's %s: %d", rg, a.status)
		}
	}
	if err := s.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := s.store.View(t.Context(), func(tx storage.Tx) error {
		var spanSize int64
		err := tx.Layers(d, func(row storage.LayerRow) error { spanSize = row.SpanSize; return nil })
		if err != nil {
			return err
		}
		row, err := tx.Heat(d, spanSize)
		var read []int
		for i, h := range row.Spans {
			if h.Reads > 0 {
				read = append(read, i)
			}
		}
		if want := []int{1, 2, 5}; !slices.Equal(read, want) {
			t.Errorf("spans %v are said to have been read, want %v", read, want)
		}
		if err != nil {
			return err
		}
		pulls, err := tx.Pulls(m)
		if pulls.Pulls != 2 {
			t.Errorf("%d pulls, want 2", pulls.Pulls)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
