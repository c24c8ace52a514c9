package proxy

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

func TestResolve(t *testing.T) {
	routes, err := newRoutes([]*Upstream{
		{Name: "docker.io", Aliases: []string{"hub"}, Library: true},
		{Name: "ghcr.io", Hosts: []string{"ghcr.proxy.example"}},
		{Name: "registry.local:5000", Aliases: []string{"local-registry"}},
	}, "docker.io")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, host, path, ns string
		want                 string // "" : NAME_UNKNOWN
	}{
		{"path prefix", "", "ghcr.io/org/app", "", "ghcr.io/org/app"},
		{"alias", "", "hub/library/redis", "", "docker.io/library/redis"},
		{"prefix with library", "", "docker.io/redis", "", "docker.io/library/redis"},
		{"default upstream", "", "redis", "", "docker.io/library/redis"},
		{"default upstream, two segments", "", "bitnami/redis", "", "docker.io/bitnami/redis"},
		{"ns", "", "org/app", "ghcr.io", "ghcr.io/org/app"},
		{"ns with port", "", "org/app", "registry.local:5000", "registry.local:5000/org/app"},
		{"ns under override_path", "", "ghcr.io/org/app", "ghcr.io", "ghcr.io/org/app"},
		{"ns with alias as first segment", "", "hub/library/redis", "docker.io", "docker.io/library/redis"},
		{"ns wins over another prefix", "", "docker.io/library/redis", "ghcr.io", "ghcr.io/docker.io/library/redis"},
		{"prefix wins over unknown ns", "", "ghcr.io/org/app", "internal.example", "ghcr.io/org/app"},
		{"unknown ns is never the default upstream", "", "team/app", "internal.example", ""},
		{"unknown ns is never a virtual host", "ghcr.proxy.example", "team/app", "internal.example", ""},
		{"virtual host", "ghcr.proxy.example", "org/app", "", "ghcr.io/org/app"},
		{"virtual host with port and case", "GHCR.Proxy.example:5000", "org/app", "", "ghcr.io/org/app"},
		{"host that is not configured", "", "evil.example/org/app", "", ""},
		{"upstream without repository", "", "ghcr.io", "", ""},
		{"ns without repository", "", "ghcr.io", "ghcr.io", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v2/"+tt.path+"/manifests/x", nil)
			if tt.ns != "" {
				r.URL.RawQuery = "ns=" + tt.ns
			}
			if tt.host != "" {
				r.Host = tt.host
			}
			_, got, err := routes.resolve(r, tt.path)
			if tt.want != "" {
				if err != nil || got.String() != tt.want {
					t.Errorf("got %v, %v, want %s", got, err, tt.want)
				}
				return
			}
			var e *oci.Error
			if !errors.As(err, &e) || e.Code != errcode.ErrorCodeNameUnknown || e.HTTPStatus() != 404 {
				t.Errorf("got %v, %v, want NAME_UNKNOWN and 404", got, err)
			}
		})
	}
}

func TestRoutesClash(t *testing.T) {
	tests := []struct {
		name string
		ups  []*Upstream
		def  string
	}{
		{"alias twice", []*Upstream{{Name: "a", Aliases: []string{"x"}}, {Name: "b", Aliases: []string{"x"}}}, "a"},
		{"alias is a name", []*Upstream{{Name: "a"}, {Name: "b", Aliases: []string{"a"}}}, "a"},
		{"host twice", []*Upstream{{Name: "a", Hosts: []string{"h"}}, {Name: "b", Hosts: []string{"H"}}}, "a"},
		{"default is unknown", []*Upstream{{Name: "a"}}, "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := newRoutes(tt.ups, tt.def); err == nil {
				t.Error("no error")
			}
		})
	}
}
