package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// TestOpenBlob reads a blob that is kept on the way, one that is larger than the
// store, one that is here already, and such that are not what they are called.
func TestOpenBlob(t *testing.T) {
	layer := random(3<<20, 31)
	right := v1.Descriptor{Digest: digest.FromBytes(layer), Size: int64(len(layer))}
	for _, tt := range []struct {
		name   string
		max    int64 // of the store
		here   bool
		spoil  bool
		desc   v1.Descriptor
		want   error
		reason string
		kept   bool
		either bool // it may have come whole before it was left
	}{
		{name: "kept", desc: right, kept: true},
		{name: "here", desc: right, here: true, kept: true},
		{name: "larger than the store", max: 1 << 20, desc: right},
		{name: "wrong", spoil: true, desc: right, want: upstream.ErrDigest},
		{name: "wrong and larger than the store", max: 1 << 20, spoil: true, desc: right, want: upstream.ErrDigest},
		{name: "of another size", desc: v1.Descriptor{Digest: right.Digest, Size: 5}, reason: "its manifest says 5", either: true},
		{name: "nowhere", desc: v1.Descriptor{Digest: digest.FromString("nowhere"), Size: 5}, want: storage.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = tt.max })
			g.addBlob("a", layer)
			if tt.spoil {
				g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
					if r.Method == http.MethodHead {
						return false
					}
					bad := bytes.Clone(layer)
					bad[len(bad)/2] ^= 1
					_, _ = w.Write(bad)
					return true
				}
			}
			if tt.here {
				s.do(t, http.MethodGet, "/v2/up/a/blobs/"+right.Digest.String())
			}
			g.take()
			var got []byte
			r, err := s.p.OpenBlob(t.Context(), oci.Repo{Upstream: "up", Name: "a"}, tt.desc)
			if err == nil {
				got, err = io.ReadAll(r)
				err = errors.Join(err, r.Close())
			}
			failed := tt.want != nil || tt.reason != ""
			if (err != nil) != failed || tt.want != nil && !errors.Is(err, tt.want) || failed && !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("%v, want %v %s", err, tt.want, tt.reason)
			}
			if !failed && !bytes.Equal(got, layer) {
				t.Errorf("%d bytes, want the layer's %d", len(got), len(layer))
			}
			if row, err := s.store.Stat(t.Context(), right.Digest); (err == nil) != tt.kept && !tt.either || err == nil && row.Size != right.Size {
				t.Errorf("in the store: %d bytes, %v, want kept %t", row.Size, err, tt.kept)
			}
			if asked := g.take(); tt.here && len(asked) > 0 {
				t.Errorf("asked upstream for %v", asked)
			}
		})
	}
}

// TestOpenBlobLeft closes a blob in the middle, and the server over another.
func TestOpenBlobLeft(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(3<<20, 32)
	d := v1.Descriptor{Digest: g.addBlob("a", layer), Size: int64(len(layer))}
	repo := oci.Repo{Upstream: "up", Name: "a"}
	for range 2 { // the second is left to the end of the server
		r, err := s.p.OpenBlob(t.Context(), repo, d)
		if err == nil {
			_, err = io.ReadFull(r, make([]byte, 1000))
		}
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
	}
}
