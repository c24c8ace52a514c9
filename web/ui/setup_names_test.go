package ui

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestSetupNames: what is to be copied names no upstream that is not here.
func TestSetupNames(t *testing.T) {
	for name, tt := range map[string]struct {
		list     []Upstream
		def      string
		image    string // in the commands
		mirrored string // a registry of which containerd's file is shown; "": none is
	}{
		"Docker Hub": {[]Upstream{{Name: "ghcr.io"}, {Name: "docker.io"}}, "docker.io", "docker.io/library/redis:7", "docker.io"},
		"another":    {[]Upstream{{Name: "a", Hosted: true}, {Name: "ghcr.io"}}, "ghcr.io", "ghcr.io/IMAGE:TAG", "ghcr.io"},
		"no default": {[]Upstream{{Name: "lab"}}, "", "lab/IMAGE:TAG", ""},
		"own name":   {[]Upstream{{Name: "lab"}}, "lab", "lab/IMAGE:TAG", ""},
		"hosted":     {[]Upstream{{Name: "local", Hosted: true}}, "", "local/IMAGE:TAG", ""},
		"none":       {nil, "", "UPSTREAM/IMAGE:TAG", ""},
	} {
		r := newRig(t, func(o *Options) {
			o.Upstreams, o.Default = func() []Upstream { return tt.list }, tt.def
		})
		var s Setup
		if err := json.Unmarshal(r.do("GET", "/api/v1/setup", "").Body.Bytes(), &s); err != nil || len(s.Clients) != len(clients) {
			t.Fatalf("%s: %d clients, %v", name, len(s.Clients), err)
		}
		texts, shown := 0, ""
		for _, c := range s.Clients {
			for _, f := range c.Files {
				texts += strings.Count(f.Text, "127.0.0.1:5000/"+tt.image)
				if strings.Contains(f.Text, "127.0.0.1:5000/docker.io") && !strings.Contains(tt.image, "docker.io") {
					t.Errorf("%s: %s, %s names docker.io:\n%s", name, c.ID, f.Name, f.Text)
				}
				if rest, ok := strings.CutPrefix(f.Name, "/etc/containerd/certs.d/"); ok {
					shown = strings.TrimSuffix(rest, "/hosts.toml")
				}
				if f.Name == "" || strings.TrimSpace(f.Text) == "" {
					t.Errorf("%s: %s has an empty file %q", name, c.ID, f.Name)
				}
			}
		}
		if texts < 6 || shown != tt.mirrored {
			t.Errorf("%s: %d commands have %s, want 6 or more; containerd's file is of %q, want %q", name, texts, tt.image, shown, tt.mirrored)
		}
	}
}
