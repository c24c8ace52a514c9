package indexer

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
)

// BenchmarkListed measures what passes between the last byte of the last layer
// of an image and its index being listed, synced to disk, as ms/listed. The
// layer streams in before that, at the speed of the builder.
func BenchmarkListed(b *testing.B) {
	plain := newTar(b, 1, 64<<20)
	var sum, worst time.Duration
	n := 0
	for ; b.Loop(); n++ {
		layer := compress(b, plain, gzip.Header{ModTime: time.Unix(int64(n+1), 0)})
		took := listed(b, newImage(b, fmt.Sprint(n), layer), layer)
		sum, worst = sum+took, max(worst, took)
	}
	b.ReportMetric(0, "ns/op") // says nothing: most of it is making the layer
	b.ReportMetric(sum.Seconds()*1000/float64(n), "ms/listed")
	b.ReportMetric(worst.Seconds()*1000, "ms/listed-worst")
}

func listed(b *testing.B, img *image, layer []byte) time.Duration {
	b.Helper()
	dir := b.TempDir()
	blobs, err := disk.New(dir)
	if err != nil {
		b.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	built := make(chan struct{}, 1)
	x := New(Options{
		Store: storage.New(storage.Options{Blobs: blobs, Meta: db}), SpillDir: dir,
		Rules: []Rule{{Repositories: []string{"**"}}}, Logger: slog.New(onBuilt{slog.DiscardHandler, built}),
	})
	ctx, stop := context.WithCancel(b.Context())
	ran := make(chan error, 1)
	go func() { ran <- x.Run(ctx) }()

	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	if err := x.Manifest(ctx, redis, row); err != nil {
		b.Fatal(err)
	}
	s := &pacedReader{body: layer[:len(layer)-1], drained: make(chan struct{}), last: make(chan []byte, 1)}
	x.Tap(digest.FromBytes(layer), int64(len(layer)), func() (io.ReadCloser, error) { return io.NopCloser(s), nil })
	<-s.drained
	began := time.Now()
	s.last <- layer[len(layer)-1:]
	<-built
	took := time.Since(began)
	stop()
	if err := errors.Join(<-ran, db.Close()); err != nil {
		b.Fatal(err)
	}
	return took
}

// pacedReader gives body, says that it is drained, and waits for the rest.
type pacedReader struct {
	body    []byte
	drained chan struct{}
	last    chan []byte
	over    bool
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if len(r.body) == 0 {
		if r.over {
			return 0, io.EOF
		}
		close(r.drained)
		r.body, r.over = <-r.last, true
	}
	n := copy(p, r.body)
	r.body = r.body[n:]
	return n, nil
}

// onBuilt signals the line that says that an index is listed.
type onBuilt struct {
	slog.Handler
	built chan struct{}
}

func (h onBuilt) Enabled(context.Context, slog.Level) bool { return true }

func (h onBuilt) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "index built" {
		h.built <- struct{}{}
	}
	return nil
}
