package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
)

// TestNamespacesAreMeasured: how full a quota is can be seen before a push is
// refused.
func TestNamespacesAreMeasured(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := newServerAt(t, t.TempDir(), newRegistry(t), func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true, Hosting: Hosting{Quota: 1000}, Aliases: []string{"l"}}, &Upstream{Name: "team", Hosted: true})
		o.Registerer = reg
	}, nil)
	s.pushBlob(t, "local/a", random(300, 1))
	s.pushBlob(t, "l/b", random(300, 1))
	s.pushBlob(t, "team/a", random(20, 2))
	loc := s.send(t, http.MethodPost, "/v2/local/a/blobs/uploads/", nil).header.Get("Location")
	if a := s.send(t, http.MethodPatch, loc, strings.NewReader("12345")); a.status != http.StatusAccepted {
		t.Fatalf("chunk: %d %s", a.status, a.body)
	}
	const want = `
# HELP sociable_hosted_bytes Bytes that the repositories of a hosted namespace have, each digest once.
# TYPE sociable_hosted_bytes gauge
sociable_hosted_bytes{namespace="local"} 300
sociable_hosted_bytes{namespace="team"} 20
# HELP sociable_hosted_quota_bytes Most bytes that a hosted namespace may have (hosted.NAME.quota); 0 is no limit.
# TYPE sociable_hosted_quota_bytes gauge
sociable_hosted_quota_bytes{namespace="local"} 1000
sociable_hosted_quota_bytes{namespace="team"} 0
# HELP sociable_hosted_upload_bytes Bytes of open uploads to a hosted namespace beyond what it has: they count for its quota, too.
# TYPE sociable_hosted_upload_bytes gauge
sociable_hosted_upload_bytes{namespace="local"} 5
sociable_hosted_upload_bytes{namespace="team"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sociable_hosted_bytes", "sociable_hosted_quota_bytes", "sociable_hosted_upload_bytes"); err != nil {
		t.Error(err)
	}
	list, err := s.p.Namespaces(t.Context())
	if err != nil || len(list) != 2 || list[0] != (storage.NamespaceUse{Name: "local", Bytes: 300, UploadBytes: 5, Quota: 1000}) || list[1].Name != "team" {
		t.Errorf("%+v, %v", list, err)
	}
}
