package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// NodeOptions say which files of a node to read; "" leaves one out.
type NodeOptions struct {
	Snapshotter string        // soci-snapshotter-grpc's config.toml
	Containerd  string        // containerd's config.toml
	Hosts       string        // the folder with REGISTRY/hosts.toml
	Proxy       string        // the proxy's host as images or mirrors name it; "": it is not looked for
	Tell        func(Finding) // each finding as it comes; nil: nobody is told
}

// Node reads a node's configuration files.
func Node(o NodeOptions) Report {
	n := &node{o: o, report: Report{Reference: "node"}}
	if o.Snapshotter != "" {
		n.snapshotter()
	}
	if o.Containerd != "" {
		n.containerd()
	}
	if o.Hosts != "" {
		n.hosts()
	}
	return n.report
}

type node struct {
	o      NodeOptions
	report Report
}

func (n *node) tell(v Verdict, step, mend, format string, args ...any) {
	f := Finding{Step: step, Verdict: v, What: fmt.Sprintf(format, args...), Mend: mend}
	n.report.Findings = append(n.report.Findings, f)
	if n.o.Tell != nil {
		n.o.Tell(f)
	}
}

// table is TOML as it was read.
type table map[string]any

// read reads a file; absent reports that there is none.
func (n *node) read(step, path string) (t table, ok bool) {
	body, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		n.tell(Fail, step, "install and configure it, or name the file that is used", "%s is not there", path)
		return nil, false
	case err != nil:
		n.tell(Fail, step, "run this as somebody who may read it", "%v", err)
		return nil, false
	}
	if err := toml.Unmarshal(body, &t); err != nil {
		line := ""
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, _ := at.Position()
			line = fmt.Sprintf(":%d", row)
		}
		n.tell(Fail, step, "mend the file: the program that reads it does not start with it, or ignores it", "%s%s: %v", path, line, err)
		return nil, false
	}
	return t, true
}

// at goes down through tables; the zero value where there is nothing of the type.
func at[T any](t table, keys ...string) (v T, ok bool) {
	for i, k := range keys {
		x, there := t[k]
		if !there {
			return v, false
		}
		if i == len(keys)-1 {
			v, ok = x.(T)
			return v, ok
		}
		m, isTable := x.(map[string]any)
		if !isTable {
			return v, false
		}
		t = m
	}
	return v, false
}

// snapshotter reads soci-snapshotter's configuration.
func (n *node) snapshotter() {
	const step = "snapshotter"
	t, ok := n.read(step, n.o.Snapshotter)
	if !ok {
		return
	}
	v1, _ := at[bool](t, "pull_modes", "soci_v1", "enable")
	v2, said := at[bool](t, "pull_modes", "soci_v2", "enable")
	parallel, _ := at[bool](t, "pull_modes", "parallel_pull_unpack", "enable")
	switch {
	case parallel && !v1 && said && !v2:
		n.tell(Fail, step, "set [pull_modes.soci_v1] enable = true", "%s: only parallel pulls are on: no index is looked for", n.o.Snapshotter)
	case !v1 && said && !v2:
		n.tell(Fail, step, "set [pull_modes.soci_v1] enable = true", "%s: SOCI v1 and v2 are both off: no image is loaded lazily", n.o.Snapshotter)
	case !v1:
		n.tell(Warn, step, "set [pull_modes.soci_v1] enable = true, to have every indexed image loaded lazily",
			"%s: SOCI v1 is off, as by default: only images at a tag that ends in -soci, or whose rule has v2_at: tag, are loaded lazily", n.o.Snapshotter)
	default:
		n.tell(OK, step, "", "%s: SOCI v1 is on", n.o.Snapshotter)
	}
	n.mirrors(t)
}

// mirrors looks at the resolver's, which only spans are read from.
func (n *node) mirrors(t table) {
	const step = "snapshotter"
	hosts, _ := at[map[string]any](t, "resolver", "host")
	for host, x := range hosts {
		section, _ := x.(map[string]any)
		list, _ := section["mirrors"].([]any)
		for _, m := range list {
			entry, _ := m.(map[string]any)
			to, _ := entry["host"].(string)
			u, err := url.Parse(to)
			if err != nil || u.Scheme == "" || u.Host == "" {
				n.tell(Fail, step, "write it as https://HOST/v2/UPSTREAM", "[[resolver.host.%q.mirrors]] host %q has no scheme: it is dropped silently", host, to)
				continue
			}
			if n.o.Proxy != "" && u.Host == n.o.Proxy {
				n.tell(Warn, step, "name images with the proxy's host ("+n.o.Proxy+"/"+host+"/…): indexes are only asked for at the host in the reference",
					"spans of %s are read from the proxy; the index is still asked for at %s", host, host)
			}
		}
	}
}

// containerd reads containerd's configuration, version 2 or 3.
func (n *node) containerd() {
	const step = "containerd"
	t, ok := n.read(step, n.o.Containerd)
	if !ok {
		return
	}
	typ, _ := at[string](t, "proxy_plugins", "soci", "type")
	address, _ := at[string](t, "proxy_plugins", "soci", "address")
	if typ != "snapshot" || address == "" {
		n.tell(Fail, step, `add [proxy_plugins.soci] type = "snapshot", address = "/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock"`,
			"%s: there is no snapshotter plugin soci", n.o.Containerd)
	} else if _, err := os.Stat(address); err != nil {
		n.tell(Warn, step, "start soci-snapshotter-grpc", "%s: the snapshotter's socket %s is not there", n.o.Containerd, address)
	} else {
		n.tell(OK, step, "", "%s: snapshotter soci at %s", n.o.Containerd, address)
	}
	version, _ := at[int64](t, "version")
	if told, _ := at[string](t, "proxy_plugins", "soci", "exports", "enable_remote_snapshot_annotations"); version >= 3 && typ != "" && told != "true" {
		n.tell(Warn, step, `add [proxy_plugins.soci.exports] enable_remote_snapshot_annotations = "true"`,
			"%s: snapshotter soci is not told which image ctr pulls, and so loads none of these lazily", n.o.Containerd)
	}
	n.cri(t)
}

// cri looks at what Kubernetes uses.
func (n *node) cri(t table) {
	const step = "containerd"
	plugins, _ := at[map[string]any](t, "plugins")
	var snapshotter, path string
	var annotations any
	if images, ok := at[map[string]any](plugins, "io.containerd.cri.v1.images"); ok {
		snapshotter, _ = at[string](images, "snapshotter")
		annotations = images["disable_snapshot_annotations"]
		path, _ = at[string](images, "registry", "config_path")
	} else if cri, ok := at[map[string]any](plugins, "io.containerd.grpc.v1.cri"); ok {
		snapshotter, _ = at[string](cri, "containerd", "snapshotter")
		section, _ := at[map[string]any](cri, "containerd")
		annotations = section["disable_snapshot_annotations"]
		path, _ = at[string](cri, "registry", "config_path")
	} else {
		n.tell(OK, step, "", "the CRI plugin is left as it is; for Kubernetes it needs snapshotter = \"soci\" and disable_snapshot_annotations = false")
		return
	}
	if snapshotter != "soci" {
		n.tell(Fail, step, `set snapshotter = "soci" in the CRI plugin's section`, "Kubernetes' images go to snapshotter %q", snapshotter)
	}
	if off, ok := annotations.(bool); !ok || off {
		n.tell(Fail, step, "set disable_snapshot_annotations = false beside it", "the snapshotter is not told which image a layer is of: nothing is loaded lazily")
	}
	if path == "" && n.o.Hosts != "" {
		n.tell(Warn, step, fmt.Sprintf("set config_path = %q in the CRI plugin's [registry]", n.o.Hosts), "hosts.toml files are not read for Kubernetes")
	}
}

// hosts reads each REGISTRY/hosts.toml.
func (n *node) hosts() {
	const step = "hosts"
	files, err := filepath.Glob(filepath.Join(n.o.Hosts, "*", "hosts.toml"))
	if err != nil || len(files) == 0 {
		n.tell(Warn, step, "write one for each registry that the proxy stands in for; or name images with the proxy's host", "%s has no REGISTRY/hosts.toml", n.o.Hosts)
		return
	}
	slices.Sort(files)
	for _, file := range files {
		if t, ok := n.read(step, file); ok {
			n.hostsFile(filepath.Base(filepath.Dir(file)), file, t)
		}
	}
}

func (n *node) hostsFile(registry, file string, t table) {
	const step = "hosts"
	hosts, _ := at[map[string]any](t, "host")
	ours := 0
	for to, x := range hosts {
		u, err := url.Parse(to)
		if err != nil || u.Host == "" {
			n.tell(Fail, step, `write it as [host."http://HOST:PORT"]`, "%s: host %q is no URL", file, to)
			continue
		}
		if n.o.Proxy != "" && u.Host != n.o.Proxy {
			continue
		}
		ours++
		section, _ := x.(map[string]any)
		var can []string
		list, _ := section["capabilities"].([]any)
		for _, c := range list {
			s, _ := c.(string)
			can = append(can, s)
		}
		if list != nil && (!slices.Contains(can, "pull") || !slices.Contains(can, "resolve")) {
			n.tell(Warn, step, `set capabilities = ["pull", "resolve"]`, "%s: %s may not do both, pull and resolve: tags are still asked for elsewhere", file, to)
			continue
		}
		n.tell(OK, step, "", "%s goes to %s", registry, to)
	}
	if n.o.Proxy != "" && ours == 0 {
		n.tell(Warn, step, fmt.Sprintf(`add [host."http://%s"] capabilities = ["pull", "resolve"]`, n.o.Proxy), "%s does not name the proxy %s", file, n.o.Proxy)
	}
	if strings.Contains(registry, "/") {
		n.tell(Fail, step, "name the folder by the registry's host alone", "%s: %s is no host", file, registry)
	}
}
