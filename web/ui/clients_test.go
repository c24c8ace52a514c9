package ui

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
)

// TestClientFiles: what a client is to be configured with is of the form that the
// client reads.
func TestClientFiles(t *testing.T) {
	all := []Upstream{{Name: "docker.io"}, {Name: "ghcr.io"}}
	for _, tt := range []struct {
		tls   bool
		list  []Upstream
		files int // that are read
	}{{false, all, 10}, {true, all, 10}, {false, []Upstream{{Name: "lab", Hosted: true}}, 6}, {true, []Upstream{{Name: "lab", Hosted: true}}, 4}} {
		tls := tt.tls
		r := newRig(t, func(o *Options) {
			o.Listen, o.TLS, o.Upstreams = "10.0.0.7:5000", tls, func() []Upstream { return tt.list }
			if o.Default = ""; len(tt.list) > 1 {
				o.Default = tt.list[0].Name
			}
		})
		var s Setup
		if err := json.Unmarshal(r.do("GET", "/api/v1/setup", "").Body.Bytes(), &s); err != nil || len(s.Clients) != len(clients) {
			t.Fatalf("%d clients, %v", len(s.Clients), err)
		}
		read := 0
		for _, c := range s.Clients {
			for _, f := range c.Files {
				var v map[string]any
				var err error
				switch {
				case strings.HasSuffix(f.Name, ".toml"), strings.HasSuffix(f.Name, ".conf"):
					err = toml.Unmarshal([]byte(f.Text), &v)
				case strings.HasSuffix(f.Name, ".json"):
					err = json.Unmarshal([]byte(f.Text), &v)
				case strings.HasSuffix(f.Name, ".yaml"), strings.HasSuffix(f.Name, ".yml"):
					err = yaml.Unmarshal([]byte(f.Text), &v)
				default:
					continue
				}
				read++
				if err != nil {
					t.Errorf("%s, %s: %v\n%s", c.ID, f.Name, err, f.Text)
				}
				if c.ID == "soci-snapshotter" && strings.Contains(f.Name, "soci") && !tls { // which wants a URL there
					_, host, _ := strings.Cut(f.Text, "\nhost = ")
					host, _, _ = strings.Cut(host, "\n")
					if at, err := url.Parse(strings.Trim(host, `"`)); err != nil || at.Host != "10.0.0.7:5000" {
						t.Errorf("%s: host = %s: %v", f.Name, host, err)
					}
				}
			}
		}
		if read != tt.files {
			t.Errorf("%v, TLS %v: %d files were read, want %d", tt.list, tls, read, tt.files)
		}
	}
}
