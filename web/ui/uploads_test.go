package ui

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestRoomIsShown: how full namespaces are, and what is being pushed, is on the
// Overview and in the API, where uploads can be ended.
func TestRoomIsShown(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Namespaces = func(context.Context) ([]storage.NamespaceUse, error) {
			return []storage.NamespaceUse{{Name: "empty"}, {Name: "team", Bytes: 90 << 20, UploadBytes: 5 << 20, Quota: 100 << 20}}, nil
		}
	})
	u, err := r.store.NewUploadBy(t.Context(), "user <i>", 0, oci.Repo{Upstream: "team", Name: "app"}, digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(t.Context(), make([]byte, 3<<10)); err != nil {
		t.Fatal(err)
	}
	if err := u.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.Release()
	page := r.do("GET", "/", "").Body.String()
	for _, want := range []string{"team/", "90 MiB", "5.0 MiB in uploads", "95 % of 100 MiB", "Uploads under way: 1, 3.0 KiB"} {
		if !strings.Contains(page, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	if strings.Contains(page, "empty/") {
		t.Error("the overview shows a namespace of which there is nothing to say")
	}
	r.asDocumented([]apiCase{
		{"GET", "/api/v1/overview", "", 200, `"hosted":[{"name":"empty","bytes":0,"upload_bytes":0,"quota":0},{"name":"team","bytes":94371840,"upload_bytes":5242880,"quota":104857600}],"uploads":{"uploads":1,"bytes":3072}`},
		{"GET", "/api/v1/stats", "", 200, `"namespaces":[{"name":"empty"`},
		{"GET", "/api/v1/uploads", "", 200, `[{"id":"` + u.ID() + `","repository":"team/app","caller":"user`},
		{"POST", "/api/v1/uploads/cancel", `{"id":"` + u.ID() + `"}`, 200, `"bytes":3072`},
		{"POST", "/api/v1/uploads/cancel", `{"id":"` + u.ID() + `"}`, 404, "is open"},
		{"GET", "/api/v1/uploads", "", 200, `[]`},
	})
	if w := r.do("GET", "/api/v1/uploads/cancel", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET of a change: %d", w.Code)
	}
}
