package bundle

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestHugeStatement checks a statement as long as one may be. It would not end
// within the tests' time limit if a list were searched for every entry of another.
func TestHugeStatement(t *testing.T) {
	const n = 200_000
	root := digest.FromString("root")
	x := Image{Reference: "a.io/b:1", Root: v1.Descriptor{Digest: root}, Manifests: []Manifest{{Descriptor: v1.Descriptor{Digest: root}}}}
	for i := range n {
		d := digest.Digest(fmt.Sprintf("sha256:%064x", i))
		x.Blobs, x.LeftOut = append(x.Blobs, d), append(x.LeftOut, d)
	}
	s := Statement{Version: Version, Images: []Image{x}, Blobs: []Blob{{Digest: root, Size: 1, Manifest: true}}}
	if err := s.check(); err != nil {
		t.Errorf("got %v", err)
	}
	s.Images[0].LeftOut = s.Images[0].LeftOut[:n-1]
	if err := s.check(); !errors.Is(err, ErrBundle) {
		t.Errorf("with a blob that is nowhere: got %v", err)
	}
}
