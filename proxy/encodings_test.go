package proxy

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// words is n bytes that gzip makes a third of, as it does of a zTOC.
func words(n int, seed uint64) []byte {
	var buf bytes.Buffer
	rnd := rand.New(rand.NewPCG(seed, 0))
	for buf.Len() < n {
		fmt.Fprintf(&buf, "usr/share/%016x/", rnd.Uint64()>>24)
	}
	return buf.Bytes()[:n]
}

func encodedFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "encoded-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestEncodedOnceForAll has 64 clients ask for one large zTOC at once: it is
// encoded once, and their number costs no memory.
func TestEncodedOnceForAll(t *testing.T) {
	const clients = 64
	dir := t.TempDir()
	s := newServer(t, newRegistry(t), func(o *Options) { o.Scratch = dir })
	body := words(13<<20, 1)
	url := s.URL + "/v2/up/a/blobs/" + s.putZTOC(t, body).String()
	get := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept-Encoding", "gzip")
		return s.Client().Do(req)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			resp, err := get()
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n == 0 || n != resp.ContentLength || err != nil {
				t.Errorf("%d bytes of %d, %v", n, resp.ContentLength, err)
			}
		})
	}
	all.Wait()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("%d clients took %d MiB", clients, got>>20)
	}
	if got := encodedFiles(t, dir); len(got) != 1 {
		t.Errorf("kept: %v", got)
	}
	resp, err := get()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	zr, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(zr); err != nil || !bytes.Equal(got, body) {
		t.Errorf("decoded %d bytes of %d, %v", len(got), len(body), err)
	}
	s.stop()
	if got := encodedFiles(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// TestEncodingsAreBounded: what is kept has a bound on disk; what goes is made
// again, also where somebody else removed it, and whoever reads it reads on.
func TestEncodingsAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, newRegistry(t), func(o *Options) { o.Scratch = dir })
	s.p.encoded.files.max = 2 * minEncoded
	var paths []string
	for i := range 3 {
		paths = append(paths, "/v2/up/a/blobs/"+s.putZTOC(t, words(100<<10, uint64(i))).String())
	}
	get := func(path string) []byte {
		a := s.do(t, http.MethodGet, path, "Accept-Encoding", "gzip")
		if a.status != http.StatusOK || a.err != nil || a.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("status %d, %v, headers %v", a.status, a.err, a.header)
		}
		return a.body
	}
	first := get(paths[0])
	open := func() encodedFile {
		for _, x := range s.p.encoded.files.by {
			f, err := x.Value.(*lruEntry[digest.Digest, encoding]).val.open()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		t.Fatal("nothing is kept")
		return encodedFile{}
	}()
	defer open.Close()
	get(paths[1])
	get(paths[2])
	if got := encodedFiles(t, dir); len(got) != 2 {
		t.Errorf("kept: %v", got)
	}
	if got, err := io.ReadAll(open.File()); err != nil || !bytes.Equal(got, first) {
		t.Errorf("read of what went: %d bytes of %d, %v", len(got), len(first), err)
	}
	for _, name := range encodedFiles(t, dir) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range paths {
		get(path)
	}
}

// TestNoRoomToEncode: a zTOC that can't be encoded is sent as it is.
func TestNoRoomToEncode(t *testing.T) {
	s := newServer(t, newRegistry(t), func(o *Options) { o.Scratch = filepath.Join(t.TempDir(), "missing") })
	body := words(100<<10, 1)
	a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+s.putZTOC(t, body).String(), "Accept-Encoding", "gzip")
	if a.status != http.StatusOK || a.header.Get("Content-Encoding") != "" || !bytes.Equal(a.body, body) {
		t.Errorf("status %d, %d bytes, headers %v", a.status, len(a.body), a.header)
	}
}
