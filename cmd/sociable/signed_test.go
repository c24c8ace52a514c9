package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sociable/sociable/web"
)

// attach pushes a manifest with one blob of text: at tag, or as the referrer of
// subject.
func (s *shelf) attach(t *testing.T, repo, tag, text string, subject *ggcr.Descriptor) ggcr.Hash {
	t.Helper()
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, "application/vnd.dev.cosign.artifact.sig.v1+json"), types.OCIManifestSchema1)
	img, err := mutate.AppendLayers(img, static.NewLayer([]byte(text), "application/vnd.dev.cosign.simplesigning.v1+json"))
	if err != nil {
		t.Fatal(err)
	}
	if subject != nil {
		img = mutate.Subject(img, *subject).(ggcr.Image)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	word := repo + "@" + d.String()
	if tag != "" {
		word = repo + ":" + tag
	}
	if err := remote.Write(s.ref(t, word), img); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestBundleOfSigned: a signature crosses the gap in whichever way it is attached,
// and is found there in the same way.
func TestBundleOfSigned(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/app:1", 1, "amd64", "arm64")
	root, err := partial.Descriptor(idx)
	if err != nil {
		t.Fatal(err)
	}
	list, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	stem := func(h ggcr.Hash) string { return h.Algorithm + "-" + h.Hex }
	byTag := map[string]ggcr.Hash{
		stem(root.Digest) + ".sig":               s.attach(t, "acme/app", stem(root.Digest)+".sig", "signature of all", nil),
		stem(list.Manifests[0].Digest) + ".att":  s.attach(t, "acme/app", stem(list.Manifests[0].Digest)+".att", "attestation of one", nil),
		stem(list.Manifests[0].Digest) + ".sbom": s.attach(t, "acme/app", stem(list.Manifests[0].Digest)+".sbom", "sbom of one", nil),
	}
	other := stem(list.Manifests[1].Digest) + ".sig" // of the platform that stays behind
	s.attach(t, "acme/app", other, "signature of the other", nil)
	referrer := s.attach(t, "acme/app", "", "signature that refers", root)
	s.attach(t, "acme/app", "unrelated", "something else", nil)

	dir := t.TempDir()
	from, to, file, again := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "b.tar"), filepath.Join(dir, "again.tar")
	args := []string{"export", "up/acme/app:1", "-p", "linux/amd64", "--data", from, "--config", s.config}
	must(t, append(args, "-o", file)...)
	must(t, append(args, "-o", again, "--no-pull")...)
	if one, two := readFile(t, file), readFile(t, again); !bytes.Equal(one, two) {
		t.Errorf("without asking the upstream the bundle has %d bytes, with it %d", len(two), len(one))
	}
	s.Close()

	srv := startServer(t, "--config", deadConfig(t), "--data", to)
	must(t, "import", file, "--data", to)
	base := "http://" + srv.addr + "/v2/up/acme/app/"
	for tag, d := range byTag {
		code, body := plainGet(t, "GET", base+"manifests/"+tag, nil)
		if code != 200 {
			t.Errorf("%s: %d %s", tag, code, body)
		}
		pullFrom(t, srv.addr, "up/acme/app@"+d.String(), &ggcr.Platform{})
	}
	if code, body := plainGet(t, "GET", base+"referrers/"+root.Digest.String(), nil); code != 200 || strings.Count(string(body), `"digest"`) != 1 || !strings.Contains(string(body), referrer.String()) {
		t.Errorf("referrers: %d %s; want %s alone", code, body, referrer)
	}
	pullFrom(t, srv.addr, "up/acme/app@"+referrer.String(), &ggcr.Platform{})
	pins := decodeJSON[[]web.Pin](t, must(t, "pins", "--json", "--data", to))
	// The index, its two manifests, config and layers of the one; and of each of
	// the four that are attached the manifest and the blob, and the one config that
	// they have. All but the other platform's manifest are here.
	if want := 1 + 2 + 3 + 4*2 + 1; len(pins) != 1 || pins[0].Blobs != want || pins[0].Here != want-1 {
		t.Errorf("pinned: %+v, want %d", pins, want)
	}
	for _, tag := range []string{other, "unrelated"} {
		if code, _ := plainGet(t, "GET", base+"manifests/"+tag, nil); code != 404 {
			t.Errorf("%s came, too: %d", tag, code)
		}
	}
}
