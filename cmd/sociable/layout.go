package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// layout is an OCI image layout (image-spec, "OCI Image Layout") on disk.
type layout struct {
	dir string
	tag string // of the image that is meant; "" where there is one only
}

// openLayout reads DIR, DIR:TAG, or one of them behind "oci:". ok says whether
// that is a layout.
func openLayout(word string) (l layout, ok bool) {
	word = strings.TrimPrefix(word, "oci:")
	if isLayout(word) {
		return layout{dir: word}, true
	}
	if i := strings.LastIndexByte(word, ':'); i > 0 && isLayout(word[:i]) {
		return layout{dir: word[:i], tag: word[i+1:]}, true
	}
	return layout{}, false
}

func isLayout(dir string) bool {
	p, err := os.ReadFile(filepath.Join(dir, v1.ImageLayoutFile))
	var head v1.ImageLayout
	return err == nil && json.Unmarshal(p, &head) == nil && head.Version == v1.ImageLayoutVersion
}

// makeLayout makes an empty layout in dir, unless there is one.
func makeLayout(dir string) (layout, error) {
	l := layout{dir: dir}
	if isLayout(dir) {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, v1.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return l, err
	}
	empty := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`
	return l, errors.Join(
		writeFile(filepath.Join(dir, v1.ImageIndexFile), strings.NewReader(empty)),
		writeFile(filepath.Join(dir, v1.ImageLayoutFile), strings.NewReader(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`)))
}

func (l layout) blob(d digest.Digest) string {
	return filepath.Join(l.dir, v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// index reads index.json.
func (l layout) index() (idx v1.Index, err error) {
	p, err := os.ReadFile(filepath.Join(l.dir, v1.ImageIndexFile))
	if err == nil {
		err = json.Unmarshal(p, &idx)
	}
	if err != nil {
		return idx, fmt.Errorf("read the index of layout %s: %w", l.dir, err)
	}
	return idx, nil
}

// manifest reads and verifies a manifest or index.
func (l layout) manifest(d v1.Descriptor) (*oci.Manifest, error) {
	if _, err := oci.ParseDigest(d.Digest.String()); err != nil {
		return nil, err
	}
	p, err := os.ReadFile(l.blob(d.Digest))
	if err != nil {
		return nil, err
	}
	if d.Digest.Algorithm().FromBytes(p) != d.Digest {
		return nil, fmt.Errorf("manifest %s in layout %s is damaged", d.Digest, l.dir)
	}
	return oci.ParseManifest(p, d.MediaType)
}

// put writes a blob, unless it is there.
func (l layout) put(body []byte) (digest.Digest, error) {
	d := digest.FromBytes(body)
	if _, err := os.Stat(l.blob(d)); !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	return d, writeFile(l.blob(d), bytes.NewReader(body))
}

// image is what the layout's tag means: an image, or an index of images.
func (l layout) image() (v1.Descriptor, error) {
	idx, err := l.index()
	if err != nil {
		return v1.Descriptor{}, err
	}
	var found []v1.Descriptor
	var tags []string
	for _, d := range idx.Manifests {
		if d.ArtifactType != "" {
			continue // of no image, but about one
		}
		tag := d.Annotations[v1.AnnotationRefName]
		if l.tag == "" || l.tag == tag {
			found, tags = append(found, d), append(tags, tag)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return v1.Descriptor{}, fmt.Errorf("layout %s has %d images; name one as %s:TAG: %s", l.dir, len(found), l.dir, strings.Join(tags, ", "))
	}
	return v1.Descriptor{}, fmt.Errorf("layout %s has no image %s", l.dir, l.tag)
}

// images gives the image manifests of the platforms, or where none is named
// that of the host. Where the layout has one image and no index, it is that.
func (l layout) images(platforms []string, all bool, host v1.Platform) ([]v1.Descriptor, error) {
	d, err := l.image()
	if err != nil {
		return nil, err
	}
	m, err := l.manifest(d)
	if err != nil {
		return nil, err
	}
	wanted, err := oci.ParsePlatforms(platforms)
	if err != nil {
		return nil, err
	}
	if !m.IsIndex() {
		if d.Platform == nil {
			d.Platform = l.platformOf(m)
		}
		if p := d.Platform; p != nil && len(wanted) > 0 && !slices.ContainsFunc(wanted, func(w v1.Platform) bool { return oci.SamePlatform(*p, w) }) {
			return nil, fmt.Errorf("%s has no image for %s: its one is for %s", l.dir, oci.PlatformName(wanted[0]), oci.PlatformName(*p))
		}
		return []v1.Descriptor{d}, nil
	}
	if len(wanted) == 0 {
		wanted = []v1.Platform{host}
	}
	if all {
		wanted = platformsOf(m.Manifests)
	}
	var out []v1.Descriptor
	for _, w := range wanted {
		i := slices.IndexFunc(m.Manifests, func(d v1.Descriptor) bool {
			return d.Platform != nil && oci.SamePlatform(*d.Platform, w)
		})
		if i < 0 {
			return nil, fmt.Errorf("%s has no image for %s", l.dir, oci.PlatformName(w))
		}
		out = append(out, m.Manifests[i])
	}
	return out, nil
}

// platformsOf are the platforms of real images, each once: attestations have
// one that is unknown.
func platformsOf(ds []v1.Descriptor) (ps []v1.Platform) {
	for _, d := range ds {
		if !oci.RealPlatform(d.Platform) {
			continue
		}
		if !slices.ContainsFunc(ps, func(p v1.Platform) bool { return oci.SamePlatform(p, *d.Platform) }) {
			ps = append(ps, *d.Platform)
		}
	}
	return ps
}

// refer lists an index manifest in index.json, in place of an older one of the
// same subject. All else in the file stays as it is.
func (l layout) refer(d v1.Descriptor, subject digest.Digest) error {
	path := filepath.Join(l.dir, v1.ImageIndexFile)
	p, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var doc map[string]json.RawMessage
	var list []json.RawMessage
	if err := json.Unmarshal(p, &doc); err != nil {
		return fmt.Errorf("read the index of layout %s: %w", l.dir, err)
	}
	if err := json.Unmarshal(doc["manifests"], &list); err != nil {
		return fmt.Errorf("read the index of layout %s: %w", l.dir, err)
	}
	list = slices.DeleteFunc(list, func(raw json.RawMessage) bool {
		var old v1.Descriptor
		if json.Unmarshal(raw, &old) != nil || old.ArtifactType != d.ArtifactType {
			return false
		}
		m, err := l.manifest(old)
		return err == nil && m.Subject != nil && m.Subject.Digest == subject
	})
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if doc["manifests"], err = json.Marshal(append(list, raw)); err != nil {
		return err
	}
	if p, err = json.Marshal(doc); err != nil {
		return err
	}
	return writeFile(path, bytes.NewReader(p))
}
