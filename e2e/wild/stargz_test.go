package wild

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestStargz: images in the lazy formats of others pass through, and their own
// client, stargz-snapshotter, mounts their layers by ranges that it gets from us.
// Every file that the container reads is what the layers were made of.
func TestStargz(t *testing.T) {
	p := startProxy(t)
	layers := suite.image.Layers[:2] // Debian's essential packages and Python
	want, err := filesOf(layers)
	if err != nil {
		t.Fatal(err)
	}
	for name, compress := range map[string]func(map[string]string) estargz.Compression{
		"estargz": nil,
		"zstd-chunked": func(notes map[string]string) estargz.Compression {
			return chunked{&zstdchunked.Compressor{CompressionLevel: zstd.SpeedFastest, Metadata: notes}, &zstdchunked.Decompressor{}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			size := pushStargz(t, name, layers, compress)
			ref := p.down.Addr() + "/up/e2e/" + name + ":1"
			onNode(t, NodeOptions{Stargz: true}, func(n *Node) {
				p.down.Forget()
				p.up.Forget()
				if err := n.Pull(t.Context(), Lazy, ref); err != nil {
					t.Fatal(err)
				}
				if mounted, err := n.LazyMounts(); err != nil || mounted != len(layers) {
					t.Fatalf("%d layers are mounted lazily (%v), want %d\n%s", mounted, err, len(layers), n.Log())
				}
				t.Logf("pulled with %d bytes of %d, %d from the upstream", p.down.Bytes(), size, p.up.Bytes())
				if p.down.Bytes() > size/4 || p.up.Bytes() > size/2 {
					t.Errorf("the pull took %d bytes of %d, %d from the upstream", p.down.Bytes(), size, p.up.Bytes())
				}
				files, err := n.Run(t.Context(), Lazy, ref, "python3", "-c", hashProgram)
				if err != nil {
					t.Fatal(err)
				}
				compareLines(t, withoutLandmarks(files), want)
			})
			for _, r := range p.down.Requests(link.Blob(), link.Ranged) {
				if r.Status != http.StatusPartialContent {
					t.Errorf("%s %s, %s: %d", r.Method, r.Path, r.Range, r.Status)
				}
			}
			onNode(t, NodeOptions{}, func(n *Node) { // any other client
				if err := n.Pull(t.Context(), Plain, ref); err != nil {
					t.Fatal(err)
				}
				if out, err := n.Run(t.Context(), Plain, ref, "python3", "-c", "print(6 * 7)"); err != nil || out != "42\n" {
					t.Errorf("pulled plainly: %q, %v", out, err)
				}
			})
		})
	}
}

// chunked is a compression of both ways.
type chunked struct {
	*zstdchunked.Compressor
	*zstdchunked.Decompressor
}

// withoutLandmarks leaves out the files that the formats bring themselves.
func withoutLandmarks(printed string) string {
	var out strings.Builder
	for line := range strings.Lines(printed) {
		if !strings.Contains(line, "prefetch.landmark") && !strings.Contains(line, " "+estargz.TOCTarName) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// pushStargz makes an image of layers in a lazy format, eStargz unless compress
// says another, pushes it to the upstream and tells how large its layers are.
func pushStargz(t *testing.T, name string, layers []realimage.Layer, compress func(map[string]string) estargz.Compression) (size int64) {
	t.Helper()
	p := &pusher{ctx: t.Context(), repo: suite.registry.Addr + "/e2e/" + name}
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: v1.RootFS{Type: "layers"}}
	config.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE=1"}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range layers {
		f, err := suite.set.Open(l.Digest)
		if err != nil {
			t.Fatal(err)
		}
		body, d, diffID := stargzLayer(t, f, l.Size, compress)
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		p.bytes(d.MediaType, body)
		size += d.Size
	}
	p.image("1", m, config)
	if p.err != nil {
		t.Fatal(p.err)
	}
	return size
}

func stargzLayer(t *testing.T, f *os.File, size int64, compress func(map[string]string) estargz.Compression) (body []byte, d v1.Descriptor, diffID digest.Digest) {
	t.Helper()
	defer f.Close()
	notes := map[string]string{}
	d.MediaType = v1.MediaTypeImageLayerGzip
	opts := []estargz.Option{estargz.WithCompressionLevel(1)}
	if compress != nil {
		d.MediaType = v1.MediaTypeImageLayerZstd
		opts = []estargz.Option{estargz.WithCompression(compress(notes))}
	}
	blob, err := estargz.Build(io.NewSectionReader(f, 0, size), opts...)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, blob); err != nil {
		t.Fatal(err)
	}
	if err := blob.Close(); err != nil {
		t.Fatal(err)
	}
	notes[estargz.TOCJSONDigestAnnotation] = blob.TOCDigest().String()
	d.Digest, d.Size, d.Annotations = digest.FromBytes(buf.Bytes()), int64(buf.Len()), notes
	return buf.Bytes(), d, blob.DiffID()
}
