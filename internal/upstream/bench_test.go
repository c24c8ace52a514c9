package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// BenchmarkBlob reads a blob over loopback, beside net/http alone.
func BenchmarkBlob(b *testing.B) {
	data := randomBytes(64 << 20)
	d := digest.FromBytes(data)
	reg := &registry{blobs: map[digest.Digest][]byte{d: data}}
	reg.Server = httptest.NewServer(reg)
	defer reg.Close()
	u, err := url.Parse(reg.URL)
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(Options{Name: "test", URL: u})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{32 << 10, 256 << 10} {
		for name, open := range map[string]func() (io.ReadCloser, error){
			"client": func() (io.ReadCloser, error) {
				return c.Blob(b.Context(), repo, d, oci.Range{Off: 0, End: -1})
			},
			"direct": func() (io.ReadCloser, error) {
				resp, err := http.Get(reg.URL + "/v2/" + repo + "/blobs/" + d.String())
				if err != nil {
					return nil, err
				}
				return resp.Body, nil
			},
		} {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				buf := make([]byte, size)
				for b.Loop() {
					r, err := open()
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
						b.Fatal(err)
					}
					_ = r.Close()
				}
			})
		}
	}
}
