package bench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

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
	srv := httptest.NewServer(big)
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
			if _, serr := os.Stat(filepath.Join(p.Data, "blobs", "sha256", big.layer.Encoded()[:2], big.layer.Encoded())); serr == nil && fetched == 0 {
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
				"by a server on the same machine: fetched, verified, kept, and indexed as it comes, one run. %s.", float64(big.size)/1e9, len(big.starts)/2, Circumstances()),
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

// vast is a registry with one image, whose layer is made of pieces in memory.
type vast struct {
	pieces   [][]byte // of which most are the same
	starts   []int64
	size     int64
	layer    digest.Digest
	config   []byte
	manifest []byte
}

func newVast(size int64) (*vast, error) {
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
	v := &vast{config: []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`)}
	add := func(p []byte) {
		v.pieces, v.starts, v.size = append(v.pieces, p), append(v.starts, v.size), v.size+int64(len(p))
	}
	for i := 0; v.size < size; i++ {
		var head bytes.Buffer
		w := tar.NewWriter(&head)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("data/%05d", i), Mode: 0o644, Size: backfillFile, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR})
		if err != nil {
			return nil, err
		}
		p, err := member(head.Bytes())
		if err != nil {
			return nil, err
		}
		add(p)
		add(data)
	}
	end, err := member(make([]byte, 1024))
	if err != nil {
		return nil, err
	}
	add(end)
	if v.layer, err = digest.FromReader(io.NewSectionReader(v, 0, v.size)); err != nil {
		return nil, err
	}
	v.manifest, err = json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(v.config), Size: int64(len(v.config))},
		Layers: []v1.Descriptor{{MediaType: v1.MediaTypeImageLayerGzip, Digest: v.layer, Size: v.size}},
	})
	return v, err
}

// ReadAt reads the layer.
func (v *vast) ReadAt(p []byte, off int64) (n int, err error) {
	i := sort.Search(len(v.starts), func(i int) bool { return v.starts[i] > off }) - 1
	for n < len(p) && i < len(v.pieces) {
		k := copy(p[n:], v.pieces[i][off-v.starts[i]:])
		n, off = n+k, off+int64(k)
		i++
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (v *vast) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	blob := func(d digest.Digest, body io.ReadSeeker) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", d.String())
		http.ServeContent(w, r, "", time.Time{}, body)
	}
	switch {
	case r.URL.Path == "/v2/":
	case r.URL.Path == "/v2/_catalog":
		fmt.Fprint(w, `{"repositories":["vast","other"]}`)
	case strings.HasSuffix(r.URL.Path, "/vast/tags/list"):
		fmt.Fprint(w, `{"name":"vast","tags":["1"]}`)
	case strings.Contains(r.URL.Path, "/vast/manifests/") && slices.Contains([]string{"1", digest.FromBytes(v.manifest).String()}, last):
		w.Header().Set("Content-Type", v1.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(v.manifest).String())
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(v.manifest))
	case last == v.layer.String():
		blob(v.layer, io.NewSectionReader(v, 0, v.size))
	case last == digest.FromBytes(v.config).String():
		blob(digest.FromBytes(v.config), bytes.NewReader(v.config))
	default:
		http.NotFound(w, r)
	}
}
