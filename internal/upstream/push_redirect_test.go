package upstream

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestPushRedirectedElsewhere: an upload that a redirect led to another host does
// not go on there, and whatever is asked there is asked without credentials.
func TestPushRedirectedElsewhere(t *testing.T) {
	var asked, told atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			told.Add(1)
		}
		w.Header().Set("Location", "/up/1")
		w.WriteHeader(http.StatusAccepted)
	}))
	defer other.Close()
	reg := newRegistry(t)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/elsewhere", http.StatusTemporaryRedirect)
		return true
	}
	c := newClient(t, reg.URL, credentials("robot", "secret"))
	b := []byte("hello")
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	if err := c.PushBlob(t.Context(), repo, open, func() digest.Digest { return digest.FromBytes(b) }); !is[*ProtocolError](err) {
		t.Errorf("got %v", err)
	}
	if asked.Load() != 1 || told.Load() != 0 {
		t.Errorf("the other host was asked %d times, %d of them with the credentials", asked.Load(), told.Load())
	}
}
