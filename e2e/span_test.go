package e2e

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestOneFileCostsItsSpans reads one file out of a large layer of which only the
// zTOC is left here, and counts what that took from the upstream.
func TestOneFileCostsItsSpans(t *testing.T) {
	p := startProxy(t, link.Options{})
	i := image(t, realimage.ImageBig)
	layer := suite.Set.Layers[realimage.LayerBig]
	p.pull(t, i.Name)
	entry := p.awaitIndex(t, i.Repo(), i.Digest, time.Minute)
	index := decode[v1.Manifest](t, p.get(t, manifestPath(i.Repo(), entry.Digest.String())))
	zTOC := p.get(t, blobPath(i.Repo(), indexedLayers(index)[layer.Digest].Digest)).body
	if err := p.Purge(t.Context(), layer.Digest.String()); err != nil {
		t.Fatal(err)
	}
	p.link.Forget()

	lazy := mount(t, p.Addr, upstream+"/"+i.Repo(), layer, zTOC)
	if rs := p.link.Requests(); len(rs) != 0 {
		t.Errorf("mounting took upstream requests, want none: %v", rs)
	}
	file := middleFile(filesOf(t, layer, 1))
	start, end := lazy.compressed(lazy.spansOf(t, file.name))
	lazy.compareFiles(t, []tarFile{file})
	spans, took := int64(end-start), p.link.Bytes()
	t.Logf("%s, %d bytes out of a layer of %d: spans of %d bytes, %d from the upstream in %d requests",
		file.name, file.size, layer.Size, spans, took, len(p.link.Requests()))
	if took < spans || took > spans+spans/20 {
		t.Errorf("one file took %d bytes from the upstream, its spans have %d", took, spans)
	}

	p.link.Forget()
	mount(t, p.Addr, upstream+"/"+i.Repo(), layer, zTOC).compareFiles(t, []tarFile{file})
	if rs := p.link.Requests(); len(rs) != 0 {
		t.Errorf("reading it again took upstream requests, want none: %v", rs)
	}
	t.Run("ranges", func(t *testing.T) { p.compareRanges(t, i, layer, int64(start)) })
}

// middleFile is a file of 100 kB to 1 MB near the middle of a layer.
func middleFile(files []tarFile) tarFile {
	for _, f := range files[len(files)/2:] {
		if f.size > 100e3 && f.size < 1e6 {
			return f
		}
	}
	return files[len(files)/2]
}

// compareRanges reads ranges of all forms out of spans and compares them with
// the source. near is inside the layer.
func (p *proxy) compareRanges(t *testing.T, i realimage.Image, layer realimage.Layer, near int64) {
	src, err := os.Open(suite.Set.Path(layer.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	path := blobPath(i.Repo(), layer.Digest)
	for _, r := range [][2]int64{
		{0, 1}, {0, 9}, {0, 511}, {near, near}, {near - 1, near + 1}, {near + 5e6, near + 15e6},
		{layer.Size - 1, layer.Size - 1}, {layer.Size - 3e6, layer.Size - 1}, {layer.Size - 10, layer.Size + 10},
	} {
		first, last := r[0], min(r[1], layer.Size-1)
		want := make([]byte, last-first+1)
		if _, err := src.ReadAt(want, first); err != nil {
			t.Fatal(err)
		}
		a := p.get(t, path, "Range", fmt.Sprintf("bytes=%d-%d", r[0], r[1]))
		contentRange := fmt.Sprintf("bytes %d-%d/%d", first, last, layer.Size)
		if a.StatusCode != http.StatusPartialContent || a.Header.Get("Content-Range") != contentRange ||
			a.ContentLength != int64(len(want)) || a.Header.Get("Accept-Ranges") != "bytes" || !bytes.Equal(a.body, want) || a.err != nil {
			t.Errorf("range %d-%d: %s, %v, headers %v, %d bytes", r[0], r[1], a.Status, a.err, a.Header, len(a.body))
		}
		if got := a.cache(); got != "span" && got != "hit" {
			t.Errorf("range %d-%d: X-Cache %q, want span", r[0], r[1], got)
		}
	}
	if a := p.get(t, path, "Range", "bytes=-100"); a.StatusCode != http.StatusPartialContent || len(a.body) != 100 {
		t.Errorf("the last 100 bytes: %s, %d bytes", a.Status, len(a.body))
	}
	a := p.get(t, path, "Range", fmt.Sprintf("bytes=%d-", layer.Size))
	if a.StatusCode != http.StatusRequestedRangeNotSatisfiable || a.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", layer.Size) {
		t.Errorf("beyond the end: %s, Content-Range %q", a.Status, a.Header.Get("Content-Range"))
	}
	p.compareParts(t, path, src, [][2]int64{{0, 1}, {near, near + 9}, {layer.Size - 5, layer.Size - 1}})
	if n := p.link.Bytes(); n > layer.Size/4 {
		t.Errorf("a few ranges took %d bytes from the upstream", n)
	}
}

// compareParts asks for several ranges in one request.
func (p *proxy) compareParts(t *testing.T, path string, src io.ReaderAt, ranges [][2]int64) {
	header := "bytes="
	for _, r := range ranges {
		header += fmt.Sprintf("%d-%d,", r[0], r[1])
	}
	a := p.get(t, path, "Range", header[:len(header)-1])
	_, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if a.StatusCode != http.StatusPartialContent || err != nil {
		t.Fatalf("%s: %s, Content-Type %q", header, a.Status, a.Header.Get("Content-Type"))
	}
	parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	for _, r := range ranges {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, r[1]-r[0]+1)
		if _, err := src.ReadAt(want, r[0]); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("part %v: %d bytes with digest %s, want %s", r, len(got), digest.FromBytes(got), digest.FromBytes(want))
		}
	}
}

// TestColdRanges reads ranges of a layer that was never here.
func TestColdRanges(t *testing.T) {
	p := startProxy(t, link.Options{})
	i := image(t, realimage.ImageToolchain)
	layer := suite.Set.Layers[realimage.LayerGo]
	src, err := os.Open(suite.Set.Path(layer.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, first := range []int64{70e6, 0, layer.Size - 100e3} {
		want := make([]byte, 100e3)
		if _, err := src.ReadAt(want, first); err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{"cold", "warm"} {
			p.link.Forget()
			a := p.get(t, blobPath(i.Repo(), layer.Digest), "Range", fmt.Sprintf("bytes=%d-%d", first, first+int64(len(want))-1))
			if a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.body, want) {
				t.Errorf("%s range at %d: %s, %d bytes", state, first, a.Status, len(a.body))
			}
			took := p.link.Bytes(link.Method(http.MethodGet), link.Blob())
			if state == "cold" && took > 1<<20 || state == "warm" && took != 0 {
				t.Errorf("%s range of %d bytes at %d took %d bytes from the upstream", state, len(want), first, took)
			}
		}
	}
}
