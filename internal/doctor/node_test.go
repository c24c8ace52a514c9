package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNode: each file of a node, as it should be and as it is often found.
func TestNode(t *testing.T) {
	const proxy = "proxy.example:5000"
	socket := filepath.Join(t.TempDir(), "soci.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := "[proxy_plugins.soci]\ntype = \"snapshot\"\naddress = \"" + socket + "\"\n"
	cri := "[plugins.\"io.containerd.cri.v1.images\"]\nsnapshotter = \"soci\"\ndisable_snapshot_annotations = false\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"
	for name, tt := range map[string]struct {
		file, text string
		want       Verdict
		words      string
	}{
		"v1":              {"snapshotter", "[pull_modes.soci_v1]\nenable = true\n", OK, "SOCI v1 is on"},
		"as installed":    {"snapshotter", "", Warn, "SOCI v1 is off"},
		"nothing":         {"snapshotter", "[pull_modes.soci_v2]\nenable = false\n", Fail, "both off"},
		"parallel":        {"snapshotter", "[pull_modes.soci_v2]\nenable = false\n[pull_modes.parallel_pull_unpack]\nenable = true\n", Fail, "parallel"},
		"mirror":          {"snapshotter", "[[resolver.host.\"docker.io\".mirrors]]\nhost = \"http://" + proxy + "/v2/docker.io\"\n", Warn, "still asked for at docker.io"},
		"no scheme":       {"snapshotter", "[[resolver.host.\"docker.io\".mirrors]]\nhost = \"" + proxy + "/v2\"\n", Fail, "dropped silently"},
		"no TOML":         {"snapshotter", "a = \n", Fail, ":1"},
		"plugin":          {"containerd", plugin, OK, "snapshotter soci at"},
		"no exports":      {"containerd", "version = 3\n" + plugin, Warn, "which image ctr pulls"},
		"exports":         {"containerd", "version = 3\n" + plugin + "[proxy_plugins.soci.exports]\nenable_remote_snapshot_annotations = \"true\"\n", OK, "snapshotter soci at"},
		"kubernetes":      {"containerd", plugin + cri, OK, "snapshotter soci at"},
		"no plugin":       {"containerd", "version = 3\n", Fail, "no snapshotter plugin"},
		"not running":     {"containerd", strings.ReplaceAll(plugin, socket, "/nowhere"), Warn, "is not there"},
		"other default":   {"containerd", plugin + "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"\ndisable_snapshot_annotations = false\n", Fail, "overlayfs"},
		"no annotations":  {"containerd", plugin + "[plugins.\"io.containerd.cri.v1.images\"]\nsnapshotter = \"soci\"\n", Fail, "not told which image"},
		"hosts":           {"hosts", "[host.\"http://" + proxy + "\"]\ncapabilities = [\"pull\", \"resolve\"]\n", OK, "docker.io goes to"},
		"only pull":       {"hosts", "[host.\"http://" + proxy + "\"]\ncapabilities = [\"pull\"]\n", Warn, "both"},
		"another host":    {"hosts", "[host.\"http://else.example\"]\n", Warn, "does not name the proxy"},
		"no URL":          {"hosts", "[host.\"" + proxy + "\"]\n", Fail, "is no URL"},
		"hosts, no TOML":  {"hosts", "[[[", Fail, "hosts.toml:1"},
		"wrong type":      {"containerd", "proxy_plugins = 3\n", Fail, "no snapshotter plugin"},
		"wrong type deep": {"snapshotter", "resolver = {host = {a = {mirrors = [3]}}}\n", Fail, "no scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			o := NodeOptions{Proxy: proxy}
			path := filepath.Join(t.TempDir(), "config.toml")
			switch tt.file {
			case "snapshotter":
				o.Snapshotter = path
			case "containerd":
				o.Containerd = path
			case "hosts":
				o.Hosts = filepath.Dir(path)
				if err := os.Mkdir(filepath.Join(o.Hosts, "docker.io"), 0o700); err != nil {
					t.Fatal(err)
				}
				path = filepath.Join(o.Hosts, "docker.io", "hosts.toml")
			}
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := Node(o)
			for _, f := range r.Findings {
				if f.Verdict == tt.want && strings.Contains(f.What, tt.words) {
					return
				}
			}
			t.Errorf("no %s with %q in %+v", tt.want, tt.words, r.Findings)
		})
	}
	r := Node(NodeOptions{Snapshotter: "/nowhere/a", Containerd: "/nowhere/b", Hosts: "/nowhere"})
	if len(r.Findings) != 3 || r.Worst() != Fail {
		t.Errorf("nothing there: %+v", r.Findings)
	}
}
