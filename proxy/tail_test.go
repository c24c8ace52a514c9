package proxy

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
)

// readSizes notes how much is asked of partial files at once.
type readSizes struct {
	disk.OS
	mu    sync.Mutex
	sizes []int
}

func (x *readSizes) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := x.OS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(filepath.Dir(name)) != "partial" {
		return f, err
	}
	return &sizedFile{f, x}, nil
}

type sizedFile struct {
	disk.File
	x *readSizes
}

func (f *sizedFile) ReadAt(p []byte, off int64) (int, error) {
	f.x.mu.Lock()
	f.x.sizes = append(f.x.sizes, len(p))
	f.x.mu.Unlock()
	return f.File.ReadAt(p, off)
}

func (x *readSizes) take() []int {
	x.mu.Lock()
	defer x.mu.Unlock()
	sizes := x.sizes
	x.sizes = nil
	return sizes
}

// TestFollowersReadLarge has clients follow a fetch of which all but the end is
// here: each gets that by large reads out of the file, and not by io.Copy's small
// ones.
func TestFollowersReadLarge(t *testing.T) {
	const clients, size = 8, 4 << 20
	g := newRegistry(t)
	fsys := &readSizes{}
	dir := t.TempDir()
	s := newServerAt(t, dir, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) }, func(o *storage.Options) {
		blobs, err := disk.NewFS(filepath.Join(dir, "sized"), fsys)
		if err != nil {
			t.Fatal(err)
		}
		o.Blobs = blobs
	})
	layer := random(size, 41)
	d := g.addBlob("a", layer)
	rest := make(chan struct{})
	end := sync.OnceFunc(func() { close(rest) })
	defer end()
	g.serve = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
		w.Header().Set("Docker-Content-Digest", d.String())
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(body[:size-1])
		_ = http.NewResponseController(w).Flush()
		<-rest
		_, _ = w.Write(body[size-1:])
		return true
	}
	var work sync.WaitGroup
	defer work.Wait()
	get := func(read func(io.Reader)) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v2/up/a/blobs/"+d.String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		read(resp.Body)
	}
	work.Go(func() {
		get(func(r io.Reader) { _, _ = io.Copy(io.Discard, r) })
	})
	waitFor(t, func() bool {
		missing, _, ok := s.p.Flight(d)
		return ok && missing == 1
	})
	var here sync.WaitGroup
	var bodies [clients][]byte
	for i := range bodies {
		here.Add(1)
		done := sync.OnceFunc(here.Done)
		work.Go(func() {
			defer done()
			get(func(r io.Reader) {
				body := make([]byte, size-holdBack)
				_, err := io.ReadFull(r, body)
				done()
				rest, rerr := io.ReadAll(r)
				if err != nil || rerr != nil {
					t.Errorf("client %d: %v, %v", i, err, rerr)
				}
				bodies[i] = append(body, rest...)
			})
		})
	}
	here.Wait()
	end()
	work.Wait()
	for i, body := range bodies {
		if !bytes.Equal(body, layer) {
			t.Errorf("client %d has %d bytes, or others", i, len(body))
		}
	}
	// Each has size-holdBack by whole buffers, and then the rest, which may come in
	// two pieces; the first client, which came with the bytes, may have had it in any.
	large := 0
	for _, n := range fsys.take() {
		if n == chunk {
			large++
		}
	}
	if want := clients * ((size - holdBack) / chunk); large < want {
		t.Errorf("%d reads of %d bytes, want %d for %d clients", large, chunk, want, clients)
	}
}
