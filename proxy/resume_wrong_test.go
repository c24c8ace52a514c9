package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// wrongLayer is a blob of which upstream sends one byte wrong; its first answer ends
// half-way, and what is asked for behind that is refused until it is mended.
type wrongLayer struct {
	d      digest.Digest
	bytes  []byte // as they are sent
	mended atomic.Bool
}

// newWrongLayer adds it to g. Where hangs is set, the first answer stands still in
// place of breaking off.
func newWrongLayer(g *registry, hangs bool) *wrongLayer {
	right := random(4<<20, 61)
	x := &wrongLayer{d: g.addBlob("a", right), bytes: bytes.Clone(right)}
	x.bytes[1000] ^= 1
	g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		switch {
		case r.Method != http.MethodGet:
			return false
		case x.mended.Load():
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(x.bytes))
			return true
		case r.Header.Get("Range") != "":
			if hangs {
				<-r.Context().Done()
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(x.bytes)))
		_, _ = w.Write(x.bytes[:len(x.bytes)/2])
		_ = http.NewResponseController(w).Flush()
		if hangs {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	return x
}

// TestResumedIsVerified: a pull breaks off and the client goes on with "bytes=N-". It
// never has all of a blob that is not its digest's, whatever the reason was.
func TestResumedIsVerified(t *testing.T) {
	for how, hangs := range map[string]bool{"upstream breaks off": false, "the client leaves": true, "restart": true} {
		t.Run(how, func(t *testing.T) {
			g := newRegistry(t)
			x := newWrongLayer(g, hangs)
			dir := t.TempDir()
			stops := func(o *Options) { o.StopOnDisconnect = how == "the client leaves" }
			s := newServerAt(t, dir, g, stops, nil)
			path := "/v2/up/a/blobs/" + x.d.String()
			got := x.firstHalf(t, s, path, hangs)
			if how == "restart" {
				s.stop()
				s = newServerAt(t, dir, g, stops, nil)
			} else {
				waitFor(t, func() bool { return s.users(x.d) == 0 })
			}
			x.mended.Store(true)
			a := s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-", len(got)))
			if all := append(got, a.body...); a.err == nil && len(all) == len(x.bytes) {
				t.Errorf("all of a wrong blob was sent: %d bytes by 200, and the rest by %d, %s", len(got), a.status, a.header)
			}
		})
	}
}

// firstHalf reads what comes of a pull: to where it breaks off, or nearly so far.
func (x *wrongLayer) firstHalf(t *testing.T, s *server, path string, leaves bool) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var resp *http.Response
	waitFor(t, func() bool { // to fail before an answer began is as good for the proxy, but not for the test
		if resp, err = s.Client().Do(req); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
		}
		return resp.StatusCode == http.StatusOK
	})
	defer resp.Body.Close()
	body := io.Reader(resp.Body)
	if leaves {
		body = io.LimitReader(body, int64(len(x.bytes)/2-200_000))
	}
	got, err := io.ReadAll(body)
	if len(got) == 0 || len(got) > len(x.bytes)/2 {
		t.Fatalf("the first answer: %d bytes, %v", len(got), err)
	}
	return got
}
