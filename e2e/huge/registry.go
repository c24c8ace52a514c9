// Package huge shows that images of tens of gigabytes work in a small store and
// within bounded memory. The upstream is the test's own: its layers are made as
// they are read, from pieces that fit into memory, and are the same each time.
//
//	make huge                        # an image of 20 GB in two layers
//	go test ./huge                   # the same tests with layers of some megabytes
//
// E2E_HUGE_LAYER is how many compressed bytes a layer has at least, and BENCH_DOC
// is as in package bench.
package huge

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/bench"
)

const (
	fileSize = 1 << 20 // of each file of a layer
	texts    = 48      // different ones that files have
	// repository and its one tag are what the registry has.
	repository = "huge"
	tag        = "1"
)

// registry has one image, of layers that are made as they are read.
type registry struct {
	*bench.OneImage
	layers []*layer
	sent   atomic.Int64 // bytes of layers

	holdAt int64         // after so many of these no more come, until goOn
	holdOf int           // of so many of the layers, the first
	held   atomic.Bool   // that is so
	going  chan struct{} // closed by goOn
	goOn   func()
}

// holding reports that nothing of a layer is sent any more.
func (x *registry) holding() bool { return x.held.Load() }

// newRegistry makes an image of two different layers of at least size bytes.
func newRegistry(size int64) (*registry, error) {
	x := &registry{going: make(chan struct{})}
	x.goOn = sync.OnceFunc(func() { close(x.going) })
	pool, err := newPool()
	if err != nil {
		return nil, err
	}
	x.layers = make([]*layer, 2)
	x.holdOf = len(x.layers)
	ends := make(chan error)
	for i := range x.layers {
		go func() {
			var err error
			x.layers[i], err = newLayer(pool, i, size)
			ends <- err
		}()
	}
	if err := errors.Join(<-ends, <-ends); err != nil {
		return nil, err
	}
	var layers []bench.Layer
	for i, l := range x.layers {
		layers = append(layers, bench.Layer{Digest: l.digest, Size: l.Size(), Open: func(r *http.Request) io.ReadSeeker {
			return &sending{l.Reader(), x, i < x.holdOf, r.Context()}
		}})
	}
	x.OneImage, err = bench.NewOneImage(repository, layers...)
	return x, err
}

// text is what a file has, plain and as blocks of deflate that end on a byte and
// refer to nothing before them.
type text struct{ plain, packed []byte }

func newPool() ([]text, error) {
	r := rand.NewChaCha8([32]byte{1})
	pool := make([]text, texts)
	for i := range pool {
		p := make([]byte, fileSize)
		_, _ = r.Read(p) // never fails
		for j := range p {
			if j&4095 < 2048 { // half of it can be compressed
				p[j] = "0123456789abcdef"[p[j]&15]
			}
		}
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.BestSpeed)
		if err == nil {
			_, err = w.Write(p)
			err = errors.Join(err, w.Flush())
		}
		if err != nil {
			return nil, err
		}
		pool[i] = text{p, out.Bytes()}
	}
	return pool, nil
}

// layer is a tar in one gzip member.
type layer struct {
	bench.Pieces // of which those with text are the pool's
	files        int
	digest       digest.Digest
}

func newLayer(pool []text, number int, size int64) (*layer, error) {
	x, r := &layer{}, rand.New(rand.NewPCG(7, uint64(number)))
	crc, length := uint32(0), 0
	add := func(plain, packed []byte) {
		crc, length = crc32.Update(crc, crc32.IEEETable, plain), length+len(plain)
		x.Add(packed)
	}
	add(nil, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
	for ; x.Size() < size; x.files++ {
		var head bytes.Buffer
		err := tar.NewWriter(&head).WriteHeader(&tar.Header{
			Name: fileName(number, x.files), Mode: 0o644, Size: fileSize, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		})
		if err != nil {
			return nil, err
		}
		add(head.Bytes(), stored(head.Bytes(), false))
		t := pool[r.IntN(len(pool))]
		add(t.plain, t.packed)
	}
	end := make([]byte, 1024)
	add(end, stored(end, true))
	trailer := binary.LittleEndian.AppendUint32(nil, crc)
	add(nil, binary.LittleEndian.AppendUint32(trailer, uint32(length)))
	var err error
	x.digest, err = digest.FromReader(x.Reader())
	return x, err
}

// size is that of the layers.
func (x *registry) size() (n int64) {
	for _, l := range x.layers {
		n += l.Size()
	}
	return n
}

func fileName(layer, file int) string { return fmt.Sprintf("data%d/%03d/%05d", layer, file/100, file) }

// stored is p as one block of deflate that is not compressed.
func stored(p []byte, last bool) []byte {
	b := []byte{0}
	if last {
		b[0] = 1
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(p)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(p)))
	return append(b, p...)
}

// sending counts what is read of a layer, and waits where it is held.
type sending struct {
	*io.SectionReader
	up   *registry
	hold bool
	ctx  context.Context // of the request
}

func (x *sending) Read(p []byte) (int, error) {
	if x.hold && x.up.sent.Load() >= x.up.holdAt {
		x.up.held.Store(true)
		select {
		case <-x.up.going:
		case <-x.ctx.Done():
			return 0, context.Cause(x.ctx)
		}
	}
	n, err := x.SectionReader.Read(p)
	x.up.sent.Add(int64(n))
	return n, err
}
