package proxy

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// putZTOC stores body as a zTOC of a layer that repository a has.
func (s *server) putZTOC(t *testing.T, body []byte) digest.Digest {
	t.Helper()
	d, layer := digest.FromBytes(body), digest.FromString("layer")
	row := storage.BlobRow{Digest: d, Size: int64(len(body)), Kind: storage.KindZTOC, Of: layer}
	err := s.store.Put(t.Context(), row, body, func(tx storage.Tx) error {
		return tx.PutRight(oci.Repo{Upstream: "up", Name: "a"}, layer)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestZTOCEncoded: a zTOC is gzip-encoded for those who ask for that, and for
// them alone; ranges, HEADs and other blobs never are.
func TestZTOCEncoded(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	body := []byte(strings.Repeat("a window of plain text; ", 4000))
	path := "/v2/up/a/blobs/" + s.putZTOC(t, body).String()
	other := "/v2/up/a/blobs/" + g.addBlob("a", body[1:]).String()
	for _, tt := range []struct {
		name, method, path string
		header             []string
		encoded            bool
		vary               bool
		status             int
	}{
		{"asked for", "GET", path, []string{"Accept-Encoding", "gzip"}, true, true, 200},
		{"again, from what is kept", "GET", path, []string{"Accept-Encoding", "gzip"}, true, true, 200},
		{"as containerd asks", "GET", path, []string{"Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"}, true, true, 200},
		{"identity", "GET", path, []string{"Accept-Encoding", "identity"}, false, true, 200},
		{"refused", "GET", path, []string{"Accept-Encoding", "gzip;q=0, *"}, false, true, 200},
		{"a range", "GET", path, []string{"Accept-Encoding", "gzip", "Range", "bytes=0-9"}, false, true, 206},
		{"HEAD", "HEAD", path, []string{"Accept-Encoding", "gzip"}, false, true, 200},
		{"another blob", "GET", other, []string{"Accept-Encoding", "gzip"}, false, false, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, tt.method, tt.path, tt.header...)
			if a.err != nil || a.status != tt.status || (a.header.Get("Content-Encoding") == "gzip") != tt.encoded || (a.header.Get("Vary") != "") != tt.vary {
				t.Fatalf("status %d, %v, headers %v", a.status, a.err, a.header)
			}
			if n := a.header.Get("Content-Length"); n != "" && tt.method == http.MethodGet && n != strconv.Itoa(len(a.body)) {
				t.Errorf("Content-Length %s, %d bytes", n, len(a.body))
			}
			if !tt.encoded {
				return
			}
			zr, err := gzip.NewReader(bytes.NewReader(a.body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(zr)
			if err != nil || !bytes.Equal(got, body) || len(a.body) > len(body)/4 {
				t.Errorf("decoded %d bytes of %d, %v; want those %d", len(got), len(a.body), err, len(body))
			}
		})
	}
}

// TestZTOCEntityTags: the two forms have two entity tags, each good for its own.
func TestZTOCEntityTags(t *testing.T) {
	s := newServer(t, newRegistry(t), nil)
	path := "/v2/up/a/blobs/" + s.putZTOC(t, []byte(strings.Repeat("x", 1000))).String()
	tags := map[string]string{}
	for _, coding := range []string{"identity", "gzip"} {
		tags[coding] = s.do(t, http.MethodGet, path, "Accept-Encoding", coding).header.Get("Etag")
	}
	if tags["identity"] == tags["gzip"] {
		t.Errorf("both forms have the entity tag %s", tags["gzip"])
	}
	for asked, other := range map[string]string{"identity": "gzip", "gzip": "identity"} {
		if a := s.do(t, http.MethodGet, path, "Accept-Encoding", asked, "If-None-Match", tags[asked]); a.status != http.StatusNotModified || a.header.Get("Etag") != tags[asked] {
			t.Errorf("%s, with its tag: status %d, Etag %s", asked, a.status, a.header.Get("Etag"))
		}
		if a := s.do(t, http.MethodGet, path, "Accept-Encoding", asked, "If-None-Match", tags[other]); a.status != http.StatusOK {
			t.Errorf("%s, with the other's tag: status %d", asked, a.status)
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "x-gzip": true, "deflate, gzip": true, "gzip; q=0.5": true, "gzip;Q=0": false,
		"*": true, "*;q=0": false, "gzip;q=0, *;q=1": false, "identity": false, "gzip;q=much": false, "gzip;q=2": false, "br": false,
		"gzip;level=1": true, ",,": false,
	} {
		h := http.Header{}
		if header != "" {
			h.Set("Accept-Encoding", header)
		}
		if got := acceptsGzip(h); got != want {
			t.Errorf("acceptsGzip(%q) = %v, want %v", header, got, want)
		}
	}
}

// FuzzAcceptsGzip: whoever does not name gzip, or everything, does not get it.
func FuzzAcceptsGzip(f *testing.F) {
	for _, s := range []string{"gzip", "*", "a;q=1,b;;=", "gzip;q=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		low := strings.ToLower(s)
		if acceptsGzip(http.Header{"Accept-Encoding": {s}}) && !strings.Contains(low, "gzip") && !strings.Contains(s, "*") {
			t.Errorf("%q takes gzip", s)
		}
	})
}
