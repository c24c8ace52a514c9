package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestHostedWords: what people do wrong with a hosted namespace is told in words
// that help, and is no warning in the log.
func TestHostedWords(t *testing.T) {
	var log bytes.Buffer
	s := newHost(t, Hosting{}, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	for _, c := range []struct {
		method, path, body string
		status             int
		code, words        string
	}{
		{"POST", "local/blobs/uploads/", "", 404, "NAME_UNKNOWN", "local is a namespace of this registry: name a repository in it, as in local/REPOSITORY"},
		{"POST", "local/blobs/uploads", "", 404, "NAME_UNKNOWN", "local is a namespace"},
		{"PUT", "local/app/manifests/v1", "[]", 400, "MANIFEST_INVALID", "want a JSON object, got array"},
		{"GET", "local/app/blobs/" + digest.FromString("none").String(), "", 404, "BLOB_UNKNOWN", ""},
		{"GET", "local/app/manifests/none", "", 404, "MANIFEST_UNKNOWN", ""},
		{"GET", "local/app/tags/list", "", 404, "NAME_UNKNOWN", ""},
	} {
		a := s.send(t, c.method, "/v2/"+c.path, strings.NewReader(c.body))
		wantCode(t, c.method+" "+c.path, a, c.status, c.code)
		if !bytes.Contains(a.body, []byte(c.words)) {
			t.Errorf("%s %s: %s, want %q", c.method, c.path, a.body, c.words)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", &log)
	}
}

// countingDoor counts about which repositories it is asked.
type countingDoor struct {
	accessFunc
	asked map[string]int
}

func (countingDoor) Enter(*http.Request) error { return nil }
func (countingDoor) Who(*http.Request) string  { return "" }
func (d countingDoor) Sees(_ *http.Request, repo oci.Repo) bool {
	d.asked[repo.Upstream]++
	return false
}

// TestMountAsksFew: a mount from anywhere does not ask upstreams about every
// repository that has the blob.
func TestMountAsksFew(t *testing.T) {
	door := countingDoor{func(*http.Request, oci.Repo, oci.Action) error { return nil }, map[string]int{}}
	s := newHost(t, Hosting{}, func(o *Options) {
		o.Access = door
		o.Upstreams[0].AsCaller = func(*http.Request, oci.Repo) Registry { return o.Upstreams[0].Registry }
	})
	d := s.pushBlob(t, "other/app", random(100, 1))
	err := s.store.Update(context.WithoutCancel(t.Context()), func(tx storage.Tx) error {
		for i := range 20 {
			if err := tx.PutRight(oci.Repo{Upstream: "up", Name: fmt.Sprint("a", i)}, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?mount="+d.String(), nil); a.status != http.StatusAccepted {
		t.Errorf("mount: %d %s", a.status, a.body)
	}
	if door.asked["up"] != maxMountAsked || door.asked["other"] == 0 {
		t.Errorf("asked: %v, want %d of the upstream, and the hosted one", door.asked, maxMountAsked)
	}
}
