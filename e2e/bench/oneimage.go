package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pieces is a blob that is larger than memory: pieces one after another, of which
// most are the same ones.
type Pieces struct {
	parts  [][]byte
	starts []int64
	size   int64
}

// Add puts p, which is kept, at the end.
func (x *Pieces) Add(p []byte) {
	x.parts, x.starts, x.size = append(x.parts, p), append(x.starts, x.size), x.size+int64(len(p))
}

// Size is in bytes.
func (x *Pieces) Size() int64 { return x.size }

// Reader reads all of it.
func (x *Pieces) Reader() *io.SectionReader { return io.NewSectionReader(x, 0, x.size) }

// ReadAt is io.ReaderAt's.
func (x *Pieces) ReadAt(p []byte, off int64) (n int, err error) {
	i := sort.Search(len(x.starts), func(i int) bool { return x.starts[i] > off }) - 1
	for n < len(p) && i < len(x.parts) {
		k := copy(p[n:], x.parts[i][off-x.starts[i]:])
		n, off = n+k, off+int64(k)
		i++
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// OneImage is a registry of one image, with the tag 1.
type OneImage struct {
	repository       string
	layers           []Layer
	config, manifest []byte
}

// Layer is a gzip layer that is made as it is read.
type Layer struct {
	Digest digest.Digest
	Size   int64
	Open   func(*http.Request) io.ReadSeeker // for one request
}

// NewOneImage makes a registry of one repository.
func NewOneImage(repository string, layers ...Layer) (*OneImage, error) {
	x := &OneImage{
		repository: repository, layers: layers,
		config: []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`),
	}
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(x.config), Size: int64(len(x.config))},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: l.Digest, Size: l.Size})
	}
	var err error
	x.manifest, err = json.Marshal(m)
	return x, err
}

// ServeHTTP answers what a pull and a catalog ask.
func (x *OneImage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ours := strings.CutPrefix(r.URL.Path, "/v2/"+x.repository+"/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	send := func(mediaType string, d digest.Digest, body io.ReadSeeker) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Docker-Content-Digest", d.String())
		http.ServeContent(w, r, "", time.Time{}, body)
	}
	manifest, config := digest.FromBytes(x.manifest), digest.FromBytes(x.config)
	switch i := slices.IndexFunc(x.layers, func(l Layer) bool { return l.Digest.String() == last }); {
	case r.URL.Path == "/v2/":
	case r.URL.Path == "/v2/_catalog":
		fmt.Fprintf(w, `{"repositories":[%q,"other"]}`, x.repository)
	case !ours:
		http.NotFound(w, r)
	case path == "tags/list":
		fmt.Fprintf(w, `{"name":%q,"tags":["1"]}`, x.repository)
	case path == "manifests/1" || path == "manifests/"+manifest.String():
		send(v1.MediaTypeImageManifest, manifest, bytes.NewReader(x.manifest))
	case path == "blobs/"+config.String():
		send("application/octet-stream", config, bytes.NewReader(x.config))
	case i >= 0:
		send("application/octet-stream", x.layers[i].Digest, x.layers[i].Open(r))
	default:
		http.NotFound(w, r)
	}
}
