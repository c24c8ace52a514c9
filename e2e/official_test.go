package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/awslabs/soci-snapshotter/cache"
	"github.com/awslabs/soci-snapshotter/config"
	"github.com/awslabs/soci-snapshotter/fs/reader"
	"github.com/awslabs/soci-snapshotter/fs/remote"
	spanmanager "github.com/awslabs/soci-snapshotter/fs/span-manager"
	"github.com/awslabs/soci-snapshotter/metadata"
	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/awslabs/soci-snapshotter/soci/store"
	"github.com/awslabs/soci-snapshotter/ztoc"
	"github.com/awslabs/soci-snapshotter/ztoc/compression"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/e2e/realimage"
)

// official is the official implementation at work on the layout's blobs. It
// builds each layer once.
type official struct {
	builder *soci.IndexBuilder
	made    *store.SociStore
	mu      sync.Mutex // one build at a time: there are two cores
}

var theOfficial = sync.OnceValues(func() (*official, error) {
	dir, err := os.MkdirTemp(suite.Cache, "official-")
	if err != nil {
		return nil, err
	}
	suite.cleanup = append(suite.cleanup, func() { os.RemoveAll(dir) })
	// containerd's content store keeps blobs as an image layout does.
	if err := os.Symlink(filepath.Join(suite.Set.Dir, "blobs"), filepath.Join(dir, "blobs")); err != nil {
		return nil, err
	}
	content, err := local.NewStore(dir)
	if err != nil {
		return nil, err
	}
	made, err := store.NewSociStore(filepath.Join(dir, "soci"))
	if err != nil {
		return nil, err
	}
	db, err := soci.NewDB(filepath.Join(dir, "artifacts.db"))
	if err != nil {
		return nil, err
	}
	b, err := soci.NewIndexBuilder(content, made, soci.WithArtifactsDb(db))
	return &official{builder: b, made: made}, err
})

// officialIndex is the SOCI v1 index that the official tool makes of an image,
// as `soci create` does with its defaults.
func officialIndex(t *testing.T, i realimage.Image, arch string) (v1.Descriptor, []byte, error) {
	t.Helper()
	o, err := theOfficial()
	if err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	index, err := o.builder.Build(t.Context(), images.Image{Name: i.Ref(), Target: i.Descriptor()},
		soci.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return index.Desc, o.read(t, index.Desc), nil
}

func (o *official) read(t *testing.T, d v1.Descriptor) []byte {
	t.Helper()
	rc, err := o.made.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	body, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// lazyLayer is a layer as the official client mounts it, read through its own
// fetcher, span manager and verifying file reader, without FUSE.
type lazyLayer struct {
	toc   *ztoc.Ztoc
	zinfo compression.Zinfo
	files reader.Reader
}

// mount opens a layer by its zTOC, with its bytes fetched by range from addr.
func mount(t *testing.T, addr, repository string, layer realimage.Layer, zTOC []byte) *lazyLayer {
	t.Helper()
	spec, err := reference.Parse(addr + "/" + repository + ":1")
	if err != nil {
		t.Fatal(err)
	}
	hosts := []docker.RegistryHost{{Client: &http.Client{Transport: client.Transport}, Host: addr, Scheme: "http", Path: "/v2"}}
	blob, err := remote.NewResolver(config.BlobConfig{}, nil).
		Resolve(t.Context(), hosts, spec, v1.Descriptor{Digest: layer.Digest, Size: layer.Size})
	if err != nil {
		t.Fatal(err)
	}
	bytesOf := io.NewSectionReader(readerAt(func(p []byte, off int64) (int, error) { return blob.ReadAt(p, off) }), 0, layer.Size)
	toc, err := ztoc.Unmarshal(bytes.NewReader(zTOC))
	if err != nil {
		t.Fatal(err)
	}
	zinfo, err := toc.Zinfo()
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "metadata.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := metadata.NewReader(db, bytesOf, toc.TOC)
	if err != nil {
		t.Fatal(err)
	}
	spans, err := spanmanager.New(toc, bytesOf, cache.NewMemoryCache(), 0, layer.Digest)
	if err != nil {
		t.Fatal(err)
	}
	files, err := reader.NewReader(meta, layer.Digest, spans, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		zinfo.Close()
		if err := errors.Join(files.Close(), db.Close()); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return &lazyLayer{toc: toc, zinfo: zinfo, files: files}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// read reads one file, as a container would.
func (l *lazyLayer) read(name string) ([]byte, error) {
	meta := l.files.Metadata()
	id := meta.RootID()
	var size int64
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		child, attr, err := meta.GetChild(id, part)
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", part, name, err)
		}
		id, size = child, attr.Size
	}
	f, err := l.files.OpenFile(id)
	if err != nil {
		return nil, err
	}
	body := make([]byte, size)
	n, err := f.ReadAt(body, 0)
	if err != nil && (err != io.EOF || n != len(body)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return body[:n], nil
}

// spansOf lists the spans that the client needs for a file: its header and data.
func (l *lazyLayer) spansOf(t *testing.T, name string) (first, last compression.SpanID) {
	t.Helper()
	var before compression.Offset
	for _, e := range l.toc.FileMetadata {
		if e.Name == name {
			return l.zinfo.UncompressedOffsetToSpanID(before),
				l.zinfo.UncompressedOffsetToSpanID(e.UncompressedOffset + e.UncompressedSize - 1)
		}
		before = e.UncompressedOffset + (e.UncompressedSize+511)&^511
	}
	t.Fatalf("no file %s in the zTOC", name)
	return 0, 0
}

// compressed gives the compressed bytes [start, end) of spans first to last.
func (l *lazyLayer) compressed(first, last compression.SpanID) (start, end compression.Offset) {
	return l.zinfo.StartCompressedOffset(first), l.zinfo.EndCompressedOffset(last, l.toc.CompressedArchiveSize)
}

// tarFile is a regular file as the layer's tar has it.
type tarFile struct {
	name   string
	size   int64
	digest digest.Digest
}

// filesOf reads a good layer at its source with the standard library and lists
// every nth of its regular files.
func filesOf(t *testing.T, l realimage.Layer, nth int) []tarFile {
	t.Helper()
	f, err := suite.Set.Open(l.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if l.Size != l.Uncompressed {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var list []tarFile
	n := 0
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if n++; n%nth != 0 {
			continue
		}
		d, err := digest.FromReader(tr)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tarFile{h.Name, h.Size, d})
	}
}

// compareFiles reads files lazily and compares them with the source.
func (l *lazyLayer) compareFiles(t *testing.T, files []tarFile) {
	t.Helper()
	if len(files) == 0 {
		t.Fatal("no files to compare")
	}
	for _, f := range files {
		body, err := l.read(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := digest.FromBytes(body); got != f.digest {
			t.Errorf("%s read lazily has digest %s, want %s", f.name, got, f.digest)
		}
	}
}

// indexedLayers gives for each layer of a SOCI index its zTOC's descriptor.
func indexedLayers(m v1.Manifest) map[digest.Digest]v1.Descriptor {
	zs := map[digest.Digest]v1.Descriptor{}
	for _, z := range m.Layers {
		zs[digest.Digest(z.Annotations[soci.IndexAnnotationImageLayerDigest])] = z
	}
	return zs
}

// platformOf is the architecture of an image of the set.
func platformOf(i realimage.Image) string {
	if i.Name == realimage.ImageSmall {
		return "arm64"
	}
	return "amd64"
}
