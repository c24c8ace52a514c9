package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestQuotaOfLost fills a namespace, and damages a layer of it: its image can be
// pushed again, however that is done, and what takes its room first has it.
func TestQuotaOfLost(t *testing.T) {
	const quota = 3300
	lost, other := random(1000, 1), random(2000, 2)
	d := digest.FromBytes(lost)
	for name, push := range map[string]func(s *server, body []byte) answer{
		"in one go": func(s *server, body []byte) answer {
			return s.send(t, http.MethodPost, "/v2/local/only/blobs/uploads/?digest="+digest.FromBytes(body).String(), bytes.NewReader(body))
		},
		"in chunks": func(s *server, body []byte) answer {
			loc := s.send(t, http.MethodPost, "/v2/local/only/blobs/uploads/", nil).header.Get("Location")
			if a := s.send(t, http.MethodPatch, loc, bytes.NewReader(body[:500])); a.status != http.StatusAccepted {
				return a
			}
			return s.send(t, http.MethodPut, loc+"?digest="+digest.FromBytes(body).String(), bytes.NewReader(body[500:]))
		},
	} {
		for _, repair := range []bool{true, false} {
			t.Run(map[bool]string{true: "repaired, ", false: "found, "}[repair]+name, func(t *testing.T) {
				dir := t.TempDir()
				s := newServerAt(t, dir, newRegistry(t), func(o *Options) {
					o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true, Hosting: Hosting{Quota: quota}})
				}, nil)
				s.pushImage(t, "local/only", "1", lost)
				s.pushBlob(t, "local/other", other[:1800])
				wantCode(t, "before it is lost", push(s, random(1000, 3)), http.StatusForbidden, "DENIED")
				s.damage(t, dir, d, repair)
				if a := push(s, lost); a.status != http.StatusCreated {
					t.Errorf("pushed again: %d %s", a.status, a.body)
				}
				if a := s.do(t, http.MethodGet, "/v2/local/only/blobs/"+d.String()); a.status != http.StatusOK || !bytes.Equal(a.body, lost) {
					t.Errorf("pulled: %d, %d bytes", a.status, len(a.body))
				}
				wantCode(t, "when it is here again", push(s, random(1000, 3)), http.StatusForbidden, "DENIED")
				s.damage(t, dir, d, repair)
				if a := push(s, random(1000, 3)); a.status != http.StatusCreated {
					t.Errorf("another one takes its room: %d %s", a.status, a.body)
				}
				wantCode(t, "pushed when its room is taken", push(s, lost), http.StatusForbidden, "DENIED")
			})
		}
	}
}

// damage changes a byte of a blob, and has the store find that.
func (s *server) damage(t *testing.T, dir string, d digest.Digest, repair bool) {
	t.Helper()
	file := filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	body, err := os.ReadFile(file)
	if err == nil {
		body[len(body)/2] ^= 1
		err = errors.Join(os.Remove(file), os.WriteFile(file, body, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	if report, err := s.store.Check(t.Context(), storage.CheckOptions{Repair: repair}); err != nil || report.Problems == 0 {
		t.Fatalf("the check: %+v, %v", report, err)
	}
	if a := s.do(t, http.MethodHead, "/v2/local/only/blobs/"+d.String()); a.status != http.StatusNotFound {
		t.Fatalf("HEAD of what is lost: %d", a.status)
	}
}
