package bench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
)

const (
	backfillLayer = int64(10e9) // compressed bytes, at least
	backfillRSS   = 250 << 20   // of the server, at most
	backfillFile  = 64 << 20    // bytes of each file
	backfillTime  = 15 * time.Minute
)

// BenchmarkBackfill indexes an image that is only at its upstream and has a layer
// of 10 GB, which the cloud's index builder would not take. The layer is made as
// it is read: files of which half compresses, each a gzip member of its own.
func BenchmarkBackfill(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), backfillTime)
	defer cancel()
	programs, err := harness.Build(ctx, "..", filepath.Join("..", ".cache", "bin"))
	if err != nil {
		b.Fatal(err)
	}
	big, err := newVast(backfillLayer)
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewServer(big.image)
	defer srv.Close()
	config := filepath.Join(b.TempDir(), "config.yml")
	if err := os.WriteFile(config, []byte("storage: {min_free: 1GB}\nindex: {rules: [{repositories: [\"**\"], publish: v1}]}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := harness.NewProxy(programs, b.TempDir(), []string{"up=" + srv.URL}, "--config", config)
		if err == nil {
			err = p.Start(ctx)
		}
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		_, err = harness.Run(ctx, programs.Sociable, "index", "create", "up/vas*", "--data", p.Data)
		var fetched time.Duration
		for err == nil {
			var list []harness.Index
			if list, err = p.Indexes(ctx); err != nil || len(list) == 1 && list[0].Index != "" {
				break
			}
			if _, serr := os.Stat(filepath.Join(p.Data, "blobs", "sha256", big.digest.Encoded()[:2], big.digest.Encoded())); serr == nil && fetched == 0 {
				fetched = time.Since(began)
			}
			select {
			case <-time.After(250 * time.Millisecond):
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		took := time.Since(began)
		rss, rerr := p.PeakRSS()
		if err = errors.Join(err, rerr, p.Stop()); err != nil {
			b.Fatal(err)
		}
		t := Table{
			Heading: "Backfill of a layer of 10 GB",
			Intro: fmt.Sprintf("An image that is only at its upstream, whose one layer has %.1f GB, compressed, and %d files of 64 MiB, made as it is read\n"+
				"by a server on the same machine: fetched, verified, kept, and indexed as it comes, one run. %s.", float64(big.Size())/1e9, big.files, Circumstances()),
			Columns: []string{"what", "measured", "limit"},
			Rows: [][]string{
				{"`sociable index create 'up/vas*'` to the layer being whole and verified", fmt.Sprintf("%.1f s", fetched.Seconds()), ""},
				{"the same, to the index being listed", fmt.Sprintf("%.1f s", took.Seconds()), ""},
				{"peak memory of the server", fmt.Sprintf("%.0f MiB", float64(rss)/(1<<20)), fmt.Sprintf("%d MiB", backfillRSS>>20)},
			},
		}
		b.Log("\n" + t.Markdown())
		if doc := os.Getenv("BENCH_DOC"); doc != "" {
			if err := WriteSection(filepath.Join("..", "..", doc), t.Markdown()); err != nil {
				b.Fatal(err)
			}
		}
		if rss > backfillRSS {
			b.Errorf("the server took %d bytes, at most %d are wanted", rss, backfillRSS)
		}
	}
}

// newVast makes a registry of one image with one layer of at least size bytes.
func newVast(size int64) (*bigLayer, error) {
	member := func(p []byte) ([]byte, error) {
		var out bytes.Buffer
		z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
		if err == nil {
			_, err = z.Write(p)
			err = errors.Join(err, z.Close())
		}
		return out.Bytes(), err
	}
	text := make([]byte, backfillFile)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(text)
	for i := 0; i+8192 <= len(text); i += 8192 { // half of it
		for j := range text[i : i+4096] {
			text[i+j] = "0123456789abcdef"[text[i+j]&3]
		}
	}
	data, err := member(text)
	if err != nil {
		return nil, err
	}
	v := &bigLayer{}
	for ; v.Size() < size; v.files++ {
		var head bytes.Buffer
		w := tar.NewWriter(&head)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("data/%05d", v.files), Mode: 0o644, Size: backfillFile, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR})
		if err != nil {
			return nil, err
		}
		p, err := member(head.Bytes())
		if err != nil {
			return nil, err
		}
		v.Add(p)
		v.Add(data)
	}
	end, err := member(make([]byte, 1024))
	if err != nil {
		return nil, err
	}
	v.Add(end)
	if v.digest, err = digest.FromReader(v.Reader()); err != nil {
		return nil, err
	}
	v.image, err = NewOneImage("vast", Layer{v.digest, v.Size(), func(*http.Request) io.ReadSeeker { return v.Reader() }})
	return v, err
}

// bigLayer is a layer of many files, and the registry that has it.
type bigLayer struct {
	Pieces
	files  int
	digest digest.Digest
	image  *OneImage
}
