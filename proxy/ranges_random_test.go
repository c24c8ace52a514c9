package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRandomRangesLikeServeContent asks for ranges of every form, one to four at
// once and in any order, of blobs in every state and of upstreams with every odd
// habit: each answer is byte by byte net/http's on the same blob. The seed is fixed.
func TestRandomRangesLikeServeContent(t *testing.T) {
	layer := tarGz(t, 60)
	for kind, odd := range map[string]func(w http.ResponseWriter, r *http.Request, body []byte) bool{
		"cold": nil, "whole": nil, "spans": nil,
		"no length": func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if r.Method == http.MethodGet {
				trickle(w, body)
			}
			return r.Method == http.MethodGet
		},
		"no ranges": func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			if w.WriteHeader(http.StatusOK); r.Method == http.MethodGet {
				_, _ = w.Write(body)
			}
			return true
		},
		"no HEAD": func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		},
	} {
		t.Run(kind, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(7, 8))
			for range 4 {
				g := newRegistry(t)
				s := newServer(t, g, nil)
				d := g.addBlob("a", layer)
				path := "/v2/up/a/blobs/" + d.String()
				switch kind {
				case "spans":
					index(t, s, layer)
				case "whole":
					s.do(t, http.MethodGet, path)
				}
				g.mu.Lock()
				g.serve = odd
				g.mu.Unlock()
				for range 8 {
					ranged := randomRanges(rnd, int64(len(layer)))
					want := httptest.NewRecorder()
					want.Header().Set("Etag", etag(d))
					want.Header().Set("Content-Type", "application/octet-stream")
					r := httptest.NewRequest(http.MethodGet, path, nil)
					r.Header.Set("Range", ranged)
					http.ServeContent(want, r, "", time.Time{}, bytes.NewReader(layer))
					got := s.do(t, http.MethodGet, path, "Range", ranged)
					if kind == "no length" && got.status == http.StatusOK && got.err == nil && bytes.Equal(got.body, layer) {
						continue // there was nothing to count from
					}
					t.Run(ranged, func(t *testing.T) { compareAnswers(t, got, want, len(layer)) })
				}
				s.stop()
			}
		})
	}
}

// randomRanges is a Range header for a blob of size bytes.
func randomRanges(rnd *rand.Rand, size int64) string {
	var specs []string
	for range 1 + rnd.IntN(4) {
		off := rnd.Int64N(size)
		switch rnd.IntN(6) {
		case 0:
			specs = append(specs, fmt.Sprintf("-%d", 1+rnd.IntN(100_000)))
		case 1:
			specs = append(specs, fmt.Sprintf("%d-", size-1-rnd.Int64N(50_000)))
		case 2:
			specs = append(specs, fmt.Sprintf("%d-%d", off, off+rnd.Int64N(200_000)))
		case 3:
			specs = append(specs, fmt.Sprintf("%d-%d", size+rnd.Int64N(50), size+100))
		default:
			specs = append(specs, fmt.Sprintf("%d-%d", off, off+rnd.Int64N(2000)))
		}
	}
	return "bytes=" + strings.Join(specs, ",")
}
