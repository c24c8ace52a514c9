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
)

// TestReview5cResumeUnverified: a whole GET breaks off; the client goes on with bytes=N-.
func TestReview5cResumeUnverified(t *testing.T) {
	for _, how := range []string{"upstream dies", "client leaves, stop", "restart"} {
		t.Run(how, func(t *testing.T) {
			g := newRegistry(t)
			layer := random(4<<20, 61)
			bad := bytes.Clone(layer)
			bad[1000] ^= 1
			d := g.addBlob("a", layer)
			var dead atomic.Bool
			dead.Store(true)
			g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if r.Method != http.MethodGet {
					return false
				}
				if dead.Load() {
					if r.Header.Get("Range") != "" {
						if how != "upstream dies" {
							<-r.Context().Done()
						}
						w.WriteHeader(500)
						return true
					}
					w.Header().Set("Content-Length", strconv.Itoa(len(bad)))
					_, _ = w.Write(bad[:2<<20])
					_ = http.NewResponseController(w).Flush()
					if how != "upstream dies" {
						<-r.Context().Done()
					}
					panic(http.ErrAbortHandler)
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
				return true
			}
			dir := t.TempDir()
			opt := func(o *Options) { o.StopOnDisconnect = how == "client leaves, stop" }
			s := newServerAt(t, dir, g, opt, nil)
			path := "/v2/up/a/blobs/" + d.String()
			req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			want := 2 << 20
			if how != "upstream dies" {
				want -= 200_000
			}
			got := make([]byte, want)
			n, err := io.ReadFull(resp.Body, got)
			got = got[:n]
			if how == "upstream dies" {
				rest, rerr := io.ReadAll(resp.Body)
				got = append(got, rest...)
				t.Log("whole:", resp.StatusCode, len(got), err, rerr)
			}
			resp.Body.Close()
			if how == "restart" {
				s.stop()
				s = newServerAt(t, dir, g, opt, nil)
			}
			time.Sleep(300 * time.Millisecond)
			dead.Store(false)
			a := s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-", len(got)))
			t.Log("rest:", a.status, len(a.body), a.err)
			if all := append(got, a.body...); a.err == nil && a.status == 206 && len(all) == len(layer) && !bytes.Equal(all, layer) {
				t.Errorf("all %d bytes were sent, by 200 and %s, and they are wrong", len(all), a.header.Get("Content-Range"))
			}
		})
	}
}
