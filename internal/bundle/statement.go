package bundle

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Versions of Statement: what holds layers by some of their spans alone is of the
// later one, which a program that knows the first alone refuses.
const (
	Version     = 1
	VersionLazy = 2
)

// ErrBundle is wrapped by every error that is about what a bundle holds.
var ErrBundle = errors.New("not a sound bundle")

func unsound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBundle, fmt.Sprintf(format, args...))
}

// Statement says what is in a bundle.
type Statement struct {
	Version int           `json:"version"`
	Index   digest.Digest `json:"index"`           // of index.json
	Since   digest.Digest `json:"since,omitempty"` // of the statement of the earlier bundle that Image.LeftOut are in
	Images  []Image       `json:"images"`          // by reference
	Blobs   []Blob        `json:"blobs"`           // in the bundle, in its order
}

// Image is one image of a bundle.
type Image struct {
	Reference  string          `json:"reference"` // canonical: docker.io/library/redis:7
	Root       v1.Descriptor   `json:"root"`
	Manifests  []Manifest      `json:"manifests"`             // Root first; what is below it, and what refers to it
	Blobs      []digest.Digest `json:"blobs"`                 // configs and layers, of referrers too
	LeftOut    []digest.Digest `json:"left_out,omitempty"`    // of Blobs: the earlier bundle has them for the same repository
	Indexes    []Manifest      `json:"indexes,omitempty"`     // SOCI indexes, whoever imports makes them anew
	IndexBlobs []digest.Digest `json:"index_blobs,omitempty"` // what these name: zTOCs
	Lazy       []LazyLayer     `json:"lazy,omitempty"`        // of Blobs: not in the bundle, but for some spans
	// Taken is what SOCI v2 indexes of Manifests name of starts; where it is not said, nothing.
	Taken []Taken `json:"taken,omitempty"`
}

// Taken is what the SOCI v2 indexes of an image name of its starts for good.
type Taken struct {
	Manifest digest.Digest `json:"manifest"`
	Layers   []TakenLayer  `json:"layers"`
}

// TakenLayer is what starts needed of a layer: runs of spans, first and last.
type TakenLayer struct {
	Layer    digest.Digest `json:"layer"`
	SpanSize int64         `json:"span_size"`
	Runs     [][2]int      `json:"runs"`
}

// LazyLayer is a layer of which a bundle has some spans.
type LazyLayer struct {
	Layer digest.Digest `json:"layer"`
	Size  int64         `json:"size"`  // of the layer
	ZTOC  digest.Digest `json:"ztoc"`  // in the bundle, one of IndexBlobs
	Spans digest.Digest `json:"spans"` // in the bundle: a file as WriteSpans writes it
	Have  int           `json:"have"`  // spans in it
	Of    int           `json:"of"`    // of so many
}

// Manifest is one manifest of an image.
type Manifest struct {
	v1.Descriptor
	Subject digest.Digest `json:"subject,omitempty"` // of a referrer
	Tag     string        `json:"tag,omitempty"`     // of what is attached by one, see oci.AttachedTags
}

// Blob is one file of a bundle.
type Blob struct {
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`
	Manifest bool          `json:"manifest,omitempty"` // manifests come first
	Made     bool          `json:"made,omitempty"`     // by sociable, of what else is there: whoever imports makes it anew
}

// Repo is the repository of an image, and what of it the reference names.
func (x *Image) Repo() (oci.Repo, oci.Reference, error) {
	name, word, byDigest := strings.Cut(x.Reference, "@")
	if i := strings.LastIndexByte(name, ':'); !byDigest && i > 0 {
		name, word = name[:i], name[i+1:]
	}
	ref, err := oci.ParseReference(word)
	if err != nil || byDigest != (ref.Digest != "") {
		return oci.Repo{}, ref, errors.Join(err, unsound("%.300q names neither tag nor digest", x.Reference))
	}
	repo, err := oci.ParseRepo(name)
	return repo, ref, err
}

// arrange puts everything into the order in which it is written.
func (s *Statement) arrange() {
	slices.SortFunc(s.Images, func(a, b Image) int { return cmp.Compare(a.Reference, b.Reference) })
	slices.SortFunc(s.Blobs, func(a, b Blob) int {
		if a.Manifest != b.Manifest {
			if a.Manifest {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Digest, b.Digest)
	})
	s.Blobs = slices.CompactFunc(s.Blobs, func(a, b Blob) bool { return a.Digest == b.Digest })
}

// layoutIndex gives index.json: images by name, referrers and SOCI indexes beside
// them, each once, so that tools that go by it find all.
func (s *Statement) layoutIndex() ([]byte, error) {
	idx := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	seen := map[digest.Digest]bool{}
	for i := range s.Images {
		x := &s.Images[i]
		d := v1.Descriptor{MediaType: x.Root.MediaType, Digest: x.Root.Digest, Size: x.Root.Size}
		d.Annotations = map[string]string{v1.AnnotationRefName: x.Reference, "io.containerd.image.name": x.Reference}
		idx.Manifests = append(idx.Manifests, d)
	}
	for i := range s.Images {
		for _, m := range slices.Concat(s.Images[i].Manifests, s.Images[i].Indexes) {
			if m.Subject == "" && m.Tag == "" || seen[m.Digest] {
				continue
			}
			seen[m.Digest] = true
			d := v1.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType}
			if repo, _, err := s.Images[i].Repo(); m.Tag != "" && err == nil {
				d.Annotations = map[string]string{v1.AnnotationRefName: repo.String() + ":" + m.Tag}
			}
			idx.Manifests = append(idx.Manifests, d)
		}
	}
	return json.Marshal(idx)
}

// check finds what contradicts itself in a statement that was read.
func (s *Statement) check() error {
	if s.Version != Version && s.Version != VersionLazy {
		return unsound("its version is %d, this program reads %d and %d", s.Version, Version, VersionLazy)
	}
	if s.Version != VersionLazy && s.IsLazy() {
		return unsound("its version is %d, and it has layers by their spans", s.Version)
	}
	files := map[digest.Digest]Blob{}
	for i, b := range s.Blobs {
		if _, err := oci.ParseDigest(b.Digest.String()); err != nil {
			return unsound("%v", err)
		}
		switch _, twice := files[b.Digest]; {
		case twice:
			return unsound("%s is listed twice", b.Digest)
		case b.Size < 0 || b.Manifest && b.Size > oci.MaxManifestBytes:
			return unsound("%s has a size of %d", b.Digest, b.Size)
		case b.Manifest && i > 0 && !s.Blobs[i-1].Manifest:
			return unsound("manifest %s comes after a blob", b.Digest)
		}
		files[b.Digest] = b
	}
	names := map[string]bool{}
	for i := range s.Images {
		x := &s.Images[i]
		if names[x.Reference] {
			return unsound("%s is listed twice", x.Reference)
		}
		names[x.Reference] = true
		if err := x.check(files); err != nil {
			return err
		}
	}
	return nil
}

func (x *Image) check(files map[digest.Digest]Blob) error {
	_, ref, err := x.Repo()
	if err != nil {
		return unsound("%.300q: %v", x.Reference, err)
	}
	if ref.Digest != "" && ref.Digest != x.Root.Digest {
		return unsound("%s is said to be %s", x.Reference, x.Root.Digest)
	}
	if len(x.Manifests) == 0 || x.Manifests[0].Digest != x.Root.Digest {
		return unsound("%s does not begin with its own manifest", x.Reference)
	}
	tags := map[string]bool{}
	for _, m := range x.Manifests {
		for _, tag := range oci.AttachedTags(m.Digest) {
			tags[tag] = true
		}
	}
	for _, m := range x.Manifests {
		if !files[m.Digest].Manifest || files[m.Digest].Made {
			return unsound("manifest %s of %s is not in it", m.Digest, x.Reference)
		}
		if m.Tag != "" && !tags[m.Tag] {
			return unsound("manifest %s of %s has the tag %.200q, which attaches it to nothing of that", m.Digest, x.Reference, m.Tag)
		}
	}
	leftOut, lazy := setOf(x.LeftOut), x.lazy()
	for _, d := range x.Blobs {
		if b, ok := files[d]; (!ok || b.Manifest) && !leftOut[d] && !lazy[d] {
			return unsound("blob %s of %s is neither in it nor left out", d, x.Reference)
		}
	}
	return x.checkLazy(files, leftOut)
}

// setOf has what is in list: a statement is read before anybody knows who wrote
// it, and may be of any length.
func setOf(list []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(list))
	for _, d := range list {
		set[d] = true
	}
	return set
}

// lazy are the layers of which only some spans are in the bundle.
func (x *Image) lazy() map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(x.Lazy))
	for _, l := range x.Lazy {
		set[l.Layer] = true
	}
	return set
}

// checkLazy has everything be in the bundle that a lazy start needs.
func (x *Image) checkLazy(files map[digest.Digest]Blob, leftOut map[digest.Digest]bool) error {
	seen, blobs, indexBlobs := map[digest.Digest]bool{}, setOf(x.Blobs), setOf(x.IndexBlobs)
	for _, l := range x.Lazy {
		spans, ok := files[l.Spans]
		zTOC, hasZTOC := files[l.ZTOC]
		switch {
		case seen[l.Layer] || !blobs[l.Layer] || leftOut[l.Layer]:
			return unsound("layer %s of %s is listed twice, or not its own", l.Layer, x.Reference)
		case !ok || spans.Manifest || !spans.Made:
			return unsound("the spans %s of %s are not in it", l.Spans, l.Layer)
		case !hasZTOC || zTOC.Manifest || !indexBlobs[l.ZTOC]:
			return unsound("the zTOC %s of %s is not in it", l.ZTOC, l.Layer)
		case l.Have < 0 || l.Have > l.Of || l.Size < 0:
			return unsound("layer %s is said to have %d of %d spans, and %d bytes", l.Layer, l.Have, l.Of, l.Size)
		}
		seen[l.Layer] = true
	}
	if len(x.Lazy) == 0 {
		return nil
	}
	for _, m := range x.Indexes {
		if !files[m.Digest].Manifest || m.Subject == "" {
			return unsound("the SOCI index %s of %s is not in it", m.Digest, x.Reference)
		}
	}
	return nil
}

// IsLazy reports whether there are layers of which only some spans are in it.
func (s *Statement) IsLazy() bool {
	return slices.ContainsFunc(s.Images, func(x Image) bool { return len(x.Lazy) > 0 })
}

// Earlier is what an earlier bundle has, itself or by the one before it.
type Earlier struct {
	Statement digest.Digest
	has       map[oci.Repo]map[digest.Digest]bool
}

// Earlier gives what s has, for a bundle that is to follow it.
func (s *Statement) Earlier(own digest.Digest) (*Earlier, error) {
	e := &Earlier{own, map[oci.Repo]map[digest.Digest]bool{}}
	for i := range s.Images {
		repo, _, err := s.Images[i].Repo()
		if err != nil {
			return nil, err
		}
		if e.has[repo] == nil {
			e.has[repo] = map[digest.Digest]bool{}
		}
		lazy := s.Images[i].lazy()
		for _, d := range s.Images[i].Blobs {
			e.has[repo][d] = e.has[repo][d] || !lazy[d]
		}
	}
	return e, nil
}

// Has reports whether the earlier bundle has d for repo. That it has d for
// another is not enough: whoever imports must not give a repository what only
// another one was shown to have.
func (e *Earlier) Has(repo oci.Repo, d digest.Digest) bool { return e != nil && e.has[repo][d] }
