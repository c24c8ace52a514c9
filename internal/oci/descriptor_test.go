package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	digestA = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	digestB = digest.Digest("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
)

// expand writes manifests shorter: A and B are descriptors, IMAGE, INDEX,
// DMANIFEST and DLIST the media types.
var expand = strings.NewReplacer(
	"A", fmt.Sprintf(`{"mediaType":"a/a","digest":%q,"size":1}`, digestA),
	"B", fmt.Sprintf(`{"mediaType":"b/b","digest":%q,"size":2}`, digestB),
	"IMAGE", v1.MediaTypeImageManifest, "INDEX", v1.MediaTypeImageIndex,
	"DMANIFEST", MediaTypeDockerManifest, "DLIST", MediaTypeDockerManifestList,
)

func TestParseManifest(t *testing.T) {
	a := v1.Descriptor{MediaType: "a/a", Digest: digestA, Size: 1}
	b := v1.Descriptor{MediaType: "b/b", Digest: digestB, Size: 2}
	image := func(mod func(*Manifest)) *Manifest {
		m := &Manifest{MediaType: v1.MediaTypeImageManifest, ArtifactType: "a/a", Config: &a, Layers: []v1.Descriptor{b}}
		if mod != nil {
			mod(m)
		}
		return m
	}
	for _, tc := range []struct {
		name, contentType, body string
		want                    *Manifest // nil: refused
	}{
		{"image", "IMAGE", `{"schemaVersion":2,"mediaType":"IMAGE","config":A,"layers":[B]}`, image(nil)},
		{"image, its Content-Type alone", "IMAGE", `{"schemaVersion":2,"config":A,"layers":[B]}`, image(nil)},
		{"image, its own word alone", "", `{"schemaVersion":2,"mediaType":"IMAGE","config":A,"layers":[B]}`, image(nil)},
		{"image, its shape alone", "", `{"schemaVersion":2,"config":A,"layers":[B]}`, image(nil)},
		{"image as plain JSON", "application/json", `{"schemaVersion":2,"mediaType":"IMAGE","config":A,"layers":[B]}`, image(nil)},
		{"image, Content-Type with parameters", "IMAGE; charset=utf-8", `{"schemaVersion":2,"config":A,"layers":[B]}`, image(nil)},
		{"image, Content-Type in capitals", strings.ToUpper(v1.MediaTypeImageManifest),
			`{"schemaVersion":2,"mediaType":"IMAGE","config":A,"layers":[B]}`, image(nil)},
		{"Docker image", "DMANIFEST", `{"schemaVersion":2,"mediaType":"DMANIFEST","config":A,"layers":[B]}`,
			image(func(m *Manifest) { m.MediaType = MediaTypeDockerManifest })},
		{"artifact", "", `{"schemaVersion":2,"artifactType":"x/y","config":A,"layers":[B],"subject":B,"annotations":{"k":"v"}}`,
			image(func(m *Manifest) { m.ArtifactType, m.Subject, m.Annotations = "x/y", &b, map[string]string{"k": "v"} })},
		{"no layers", "", `{"schemaVersion":2,"config":A,"layers":[]}`, image(func(m *Manifest) { m.Layers = []v1.Descriptor{} })},
		{"index", "INDEX", `{"schemaVersion":2,"mediaType":"INDEX","manifests":[A,B]}`,
			&Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{a, b}}},
		{"index, its shape alone", "", `{"schemaVersion":2,"manifests":[]}`,
			&Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}},
		{"Docker list", "DLIST", `{"schemaVersion":2,"mediaType":"DLIST","manifests":[A]}`,
			&Manifest{MediaType: MediaTypeDockerManifestList, Manifests: []v1.Descriptor{a}}},
		{"blanks around", "", " \n" + `{"schemaVersion":2,"manifests":[]}` + "\n\t ",
			&Manifest{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}},

		{name: "nothing", body: ``},
		{name: "null", body: `null`},
		{name: "a list", body: `[]`},
		{name: "cut", body: `{"schemaVersion":2,"config":A,"layers":[B`},
		{name: "something behind it", body: `{"schemaVersion":2,"config":A,"layers":[B]} {}`},
		{name: "schema 1", body: `{"schemaVersion":1,"name":"x","tag":"y"}`},
		{name: "no schema", body: `{"config":A,"layers":[B]}`},
		{name: "image and index", body: `{"schemaVersion":2,"config":A,"layers":[B],"manifests":[A]}`},
		{name: "image and empty index", body: `{"schemaVersion":2,"layers":[],"manifests":[]}`},
		{name: "index with a config", body: `{"schemaVersion":2,"manifests":[],"config":A}`},
		{name: "image as index", contentType: "INDEX", body: `{"schemaVersion":2,"config":A,"layers":[B]}`},
		{name: "index as image", contentType: "IMAGE", body: `{"schemaVersion":2,"manifests":[A]}`},
		{name: "image that says index", body: `{"schemaVersion":2,"mediaType":"INDEX","config":A,"layers":[B]}`},
		{name: "two words", contentType: "DMANIFEST", body: `{"schemaVersion":2,"mediaType":"IMAGE","config":A,"layers":[B]}`},
		{name: "unknown type", body: `{"schemaVersion":2,"mediaType":"x/y","config":A,"layers":[B]}`},
		{name: "type in capitals", body: strings.ToUpper(`{"schemaVersion":2,"mediaType":"IMAGE"}`)},
		{name: "bad layer digest", body: `{"schemaVersion":2,"config":A,"layers":[{"digest":"sha256:x","size":1}]}`},
		{name: "no layer digest", body: `{"schemaVersion":2,"config":A,"layers":[{"size":1}]}`},
		{name: "digest that is a path", body: `{"schemaVersion":2,"config":A,"layers":[{"digest":"sha256:../../etc/passwd","size":1}]}`},
		{name: "negative size", body: `{"schemaVersion":2,"config":A,"layers":[{"digest":"` + string(digestA) + `","size":-1}]}`},
		{name: "size beyond numbers", body: `{"schemaVersion":2,"config":A,"layers":[{"digest":"` + string(digestA) + `","size":1e30}]}`},
		{name: "bad config", body: `{"schemaVersion":2,"config":{},"layers":[B]}`},
		{name: "bad subject", body: `{"schemaVersion":2,"config":A,"layers":[B],"subject":{"digest":"x"}}`},
		{name: "bad child", body: `{"schemaVersion":2,"manifests":[{"digest":"x"}]}`},
		{name: "too many layers", body: `{"schemaVersion":2,"config":A,"layers":[B` + strings.Repeat(",B", MaxDescriptors) + `]}`},
		{name: "too many manifests", body: `{"schemaVersion":2,"manifests":[B` + strings.Repeat(",B", MaxDescriptors) + `]}`},
		{name: "too big", body: `{"schemaVersion":2,"manifests":[]}` + strings.Repeat(" ", MaxManifestBytes)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseManifest([]byte(expand.Replace(tc.body)), expand.Replace(tc.contentType))
			if (err == nil) != (tc.want != nil) || (err != nil && (!errors.Is(err, ErrManifest) || got != nil)) {
				t.Errorf("got %+v, %v", got, err)
			}
			if diff := cmp.Diff(tc.want, got); tc.want != nil && diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got != nil && got.IsIndex() != (got.Manifests != nil) {
				t.Errorf("IsIndex is %v", got.IsIndex())
			}
		})
	}
}

// TestManifestMistakes: what a client gets to read has no word of this program's types.
func TestManifestMistakes(t *testing.T) {
	for body, want := range map[string]string{
		`[]`:                              "want a JSON object, got array",
		`"x"`:                             "want a JSON object, got string",
		`{`:                               "it is not JSON: unexpected end of JSON input",
		`{"schemaVersion":"2"}`:           "schemaVersion can't be string",
		`{"schemaVersion":2,"layers":{}}`: "layers can't be object",
		`{"schemaVersion":2,"config":{"size":"x"}}`: "config.size can't be string",
	} {
		if _, err := ParseManifest([]byte(body), ""); err == nil || err.Error() != "invalid manifest: "+want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestIsSOCI(t *testing.T) {
	for _, tc := range []struct {
		m    Manifest
		want bool
	}{
		{Manifest{}, false},
		{Manifest{ArtifactType: v1.MediaTypeImageConfig}, false},
		{Manifest{ArtifactType: MediaTypeSOCIIndexV1}, true},
		{Manifest{ArtifactType: MediaTypeSOCIIndexV2}, true},
		{Manifest{ArtifactType: "x" + MediaTypeSOCIIndexV2}, false},
		{Manifest{Annotations: map[string]string{"com.amazon.soci.index-digest": string(digestA)}}, true},
		{Manifest{Annotations: map[string]string{"com.amazon.soci.other": "x"}}, false},
	} {
		if got := tc.m.IsSOCI(); got != tc.want {
			t.Errorf("%+v: got %v", tc.m, got)
		}
	}
}

func TestEmptyDigest(t *testing.T) {
	if EmptyDigest != v1.DescriptorEmptyJSON.Digest || string(EmptyJSON) != string(v1.DescriptorEmptyJSON.Data) {
		t.Errorf("got %s of %s", EmptyDigest, EmptyJSON)
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{
		`{"schemaVersion":2,"mediaType":"IMAGE","config":A,"layers":[B],"subject":B,"artifactType":"x/y","annotations":{"k":"v"}}`,
		`{"schemaVersion":2,"mediaType":"DLIST","manifests":[A,B]}`,
		`{"schemaVersion":2,"manifests":[],"config":A}`,
	} {
		f.Add([]byte(expand.Replace(s)), v1.MediaTypeImageManifest)
		f.Add([]byte(expand.Replace(s)), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		m, err := ParseManifest(body, contentType)
		if err != nil {
			if m != nil || !errors.Is(err, ErrManifest) {
				t.Errorf("got %+v, %v", m, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Errorf("%q is not JSON", body)
		}
		if !IsManifestType(m.MediaType) || (m.Manifests != nil) != m.IsIndex() && m.Manifests != nil || m.IsIndex() && (m.Layers != nil || m.Config != nil) {
			t.Errorf("%q: got %+v", body, m)
		}
		for _, d := range append(append([]v1.Descriptor{}, m.Layers...), m.Manifests...) {
			if _, err := ParseDigest(string(d.Digest)); err != nil || d.Size < 0 {
				t.Errorf("%q: got the descriptor %+v", body, d)
			}
		}
		// Who comes to know it by its type alone reads the same.
		if again, err := ParseManifest(body, m.MediaType); err != nil || !cmp.Equal(again, m) {
			t.Errorf("%q: read again as %+v, %v; want %+v", body, again, err, m)
		}
	})
}
