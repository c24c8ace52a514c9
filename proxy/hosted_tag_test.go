package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestHostedTagIsNobodysElse: a tag that was pushed here stays, whatever its row says
// of when an upstream was asked, and whoever wants to know anew where it leads.
func TestHostedTagIsNobodysElse(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	repo := oci.Repo{Upstream: "local", Name: "app"}
	d := s.pushImage(t, "local/app", "1", random(100, 1))
	err := s.store.Update(t.Context(), func(tx storage.Tx) error {
		row, err := tx.Tag(repo, "1")
		if err != nil {
			return err
		}
		row.Checked = time.Time{}
		return tx.PutTag(row)
	})
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := s.p.Pull(t.Context(), repo, oci.Reference{Tag: "1"}, oci.PullOptions{Fresh: true})
	if err != nil || pulled.Root.Digest != d {
		t.Errorf("pulled anew: %v, %v", pulled.Root, err)
	}
	for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodGet} {
		if a := s.do(t, method, "/v2/local/app/manifests/1"); a.status != http.StatusOK || a.header.Get("Docker-Content-Digest") != d.String() {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/tags/list"); !strings.Contains(string(a.body), `["1"]`) {
		t.Errorf("tags: %s", a.body)
	}
}
