// Package deploy tests what is deployed: the chart, the dashboard and the
// compose file. It is a module of its own, since the product needs no Helm.
package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

// TestLint is helm lint --strict.
func TestLint(t *testing.T) {
	l := lint.All("chart", nil, "default", true)
	for _, m := range l.Messages {
		if m.Severity > support.InfoSev {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
}

// render gives the objects of the chart with values, by kind and name.
func render(t *testing.T, values string) (map[string]map[string]any, error) {
	t.Helper()
	c, err := loader.Load("chart")
	if err != nil {
		t.Fatal(err)
	}
	v, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: "lab", Namespace: "registry", Revision: 1, IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, doc := range strings.Split(files[name], "\n---\n") {
			var o map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, doc)
			}
			if len(o) > 0 {
				out[fmt.Sprint(o["kind"], " ", field(o, "metadata", "name"))] = o
			}
		}
	}
	return out, nil
}

// field goes down through maps and lists; nil where there is nothing.
func field(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestRender(t *testing.T) {
	for name, tt := range map[string]struct {
		values string
		want   []string
		wrong  string // of the error
	}{
		"defaults": {"", []string{"ConfigMap lab-sociable", "NetworkPolicy lab-sociable", "Service lab-sociable", "Service lab-sociable-admin", "ServiceAccount lab-sociable", "StatefulSet lab-sociable"}, ""},
		"everything": {
			"ingress: {enabled: true, className: nginx, tlsSecret: tls}\nserviceMonitor: {enabled: true, labels: {a: b}}\nprometheusRule: {enabled: true}\ngrafanaDashboard: {enabled: true}\n" +
				"mirrors: {enabled: true, endpoint: \"https://proxy.example:30500\"}\nservice: {type: NodePort, nodePort: 30500}\ntlsSecret: own\nhtpasswdSecret: users\nenvFromSecret: passwords\npersistence: {existingClaim: disk}\n" +
				"tolerations: [{operator: Exists}]\nnodeSelector: {disk: ssd}\npodAnnotations: {a: b}\nenv: [{name: A, value: b}]\nimagePullSecrets: [{name: x}]\npriorityClassName: high\nconfig: {storage: {max_bytes: 10GiB}, index: {workers: 2}}\n",
			[]string{"ConfigMap lab-sociable", "ConfigMap lab-sociable-dashboard", "ConfigMap lab-sociable-mirrors", "DaemonSet lab-sociable-mirrors", "Ingress lab-sociable", "NetworkPolicy lab-sociable",
				"PrometheusRule lab-sociable", "Service lab-sociable", "Service lab-sociable-admin", "ServiceAccount lab-sociable", "ServiceMonitor lab-sociable", "StatefulSet lab-sociable"}, "",
		},
		"misspelt":       {"persistance: {}\n", nil, "persistance"},
		"the chart's":    {"config: {listen: \":80\"}\n", nil, "config"},
		"no way there":   {"mirrors: {enabled: true}\n", nil, "mirrors.endpoint"},
		"no name there":  {"mirrors: {enabled: true}\nservice: {type: NodePort, nodePort: 30500}\ntlsSecret: own\n", nil, "a name that the certificate has"},
		"no registry":    {"mirrors: {registries: []}\n", nil, "registries"},
		"no size":        {"persistence: {size: big}\n", nil, "size"},
		"no such policy": {"image: {pullPolicy: Sometimes}\n", nil, "pullPolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, tt.values)
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Fatalf("error %v, want one about %s", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, tt.want) {
				t.Errorf("rendered %q, want %q", names, tt.want)
			}
			checkConfig(t, got)
			checkSelectors(t, got)
			checkKinds(t, got)
		})
	}
}

// checkConfig has the program itself read the configuration that was rendered.
func checkConfig(t *testing.T, got map[string]map[string]any) {
	t.Helper()
	text, _ := field(got["ConfigMap lab-sociable"], "data", "config.yml").(string)
	// Files of secrets are not here.
	text = regexp.MustCompile(`(?m)^.*(cert_file|key_file|htpasswd_file):.*$\n?|^(tls|auth):\n|^ +tls: true\n`).ReplaceAllString(text, "")
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "./cmd/sociable", "config", "check", file)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the program refuses the configuration: %v\n%s\n%s", err, out, text)
	}
}

// checkSelectors: services lead to the server's pod and to no other.
func checkSelectors(t *testing.T, got map[string]map[string]any) {
	t.Helper()
	pods := map[string]any{}
	for name, o := range got {
		if labels := field(o, "spec", "template", "metadata", "labels"); labels != nil {
			pods[name] = labels
		}
	}
	for _, svc := range []string{"Service lab-sociable", "Service lab-sociable-admin"} {
		for pod, labels := range pods {
			matches := true
			for k, v := range field(got[svc], "spec", "selector").(map[string]any) {
				matches = matches && field(labels, k) == v
			}
			if matches != (pod == "StatefulSet lab-sociable") {
				t.Errorf("%s leads to %s: %t", svc, pod, matches)
			}
		}
	}
}

// TestAdminSpeaksTLS: with a certificate the admin port has it, too, and probes and
// scrapers are told.
func TestAdminSpeaksTLS(t *testing.T) {
	for values, want := range map[string]string{"": "http", "tlsSecret: own\n": "https"} {
		got, err := render(t, values+"serviceMonitor: {enabled: true}\n")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := field(got["ConfigMap lab-sociable"], "data", "config.yml").(string)
		if has := strings.Contains(text, "  tls: true\n"); has != (want == "https") {
			t.Errorf("%q: the configuration is\n%s", values, text)
		}
		containers, _ := field(got["StatefulSet lab-sociable"], "spec", "template", "spec", "containers").([]any)
		for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
			if s := field(containers[0], probe, "httpGet", "scheme"); s != strings.ToUpper(want) {
				t.Errorf("%q: the %s is by %v, want %s", values, probe, s, want)
			}
		}
		endpoints, _ := field(got["ServiceMonitor lab-sociable"], "spec", "endpoints").([]any)
		if s := field(endpoints[0], "scheme"); s != want {
			t.Errorf("%q: scraped by %v, want %s", values, s, want)
		}
	}
}

// TestMirrors: each registry's hosts.toml names the proxy.
func TestMirrors(t *testing.T) {
	got, err := render(t, "mirrors: {enabled: true, endpoint: \"http://10.0.0.1:5000\", registries: [docker.io, ghcr.io]}\n")
	if err != nil {
		t.Fatal(err)
	}
	for registry, server := range map[string]string{"docker.io": "registry-1.docker.io", "ghcr.io": "ghcr.io"} {
		text, _ := field(got["ConfigMap lab-sociable-mirrors"], "data", registry).(string)
		for _, want := range []string{"server = \"https://" + server + "\"\n", "[host.\"http://10.0.0.1:5000\"]\n", "capabilities = [\"pull\", \"resolve\"]"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", registry, want, text)
			}
		}
	}
}

var metricName = regexp.MustCompile(`\bsociable_[a-z0-9_]+`)

// TestMetricsExist: what the rules and the dashboard ask for is measured, and
// what is measured is in one of them: else nobody would look at it.
func TestMetricsExist(t *testing.T) {
	page, err := os.ReadFile("../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range metricName.FindAllString(string(page), -1) {
		known[m], known[m+"_bucket"] = true, true
	}
	seen := map[string]bool{"sociable_build_info": true} // which tells two versions apart in every graph
	for _, file := range []string{"prometheus/rules.yml", "grafana/sociable.json"} {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := metricName.FindAllString(string(body), -1)
		if len(names) < 10 {
			t.Errorf("%s: %d metrics were found", file, len(names))
		}
		for _, m := range names {
			if !known[m] {
				t.Errorf("%s: %s is not measured", file, m)
			}
			seen[strings.TrimSuffix(m, "_bucket")] = true
		}
	}
	for _, m := range metricName.FindAllString(string(page), -1) {
		if !seen[m] {
			t.Errorf("%s is in no panel and no rule", m)
		}
	}
}

// TestDashboard: the panels have places of their own, and something to show.
func TestDashboard(t *testing.T) {
	body, err := os.ReadFile("grafana/sociable.json")
	if err != nil {
		t.Fatal(err)
	}
	type pos struct{ X, Y, W, H int }
	var d struct {
		UID    string
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     pos
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(body, &d); err != nil || d.UID == "" {
		t.Fatal(err)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Targets[0].Expr == "") {
			t.Errorf("%s: nothing to show", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s is on top of %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// TestPackageVersion: the program in the package says the package's version, which
// is one that sorts, whatever git knows.
func TestPackageVersion(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-n", "-C", "..", "deb")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := regexp.MustCompile(`main\.buildVersion=([^']*)'`).FindSubmatch(out)
	if found == nil || !regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+`).Match(found[1]) {
		t.Errorf("the program says the version %q: %s", found, out)
	}
}

// TestCompose: what the file names is there, and its configuration is one.
func TestCompose(t *testing.T) {
	body, err := os.ReadFile("compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Services map[string]struct {
			Ports   []string
			Volumes []string
		}
		Configs map[string]struct{ Content string }
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(body, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 3 {
		t.Errorf("%d services", len(c.Services))
	}
	for name, s := range c.Services {
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to other machines", name, p)
			}
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, "./") {
				if _, err := os.Stat(from); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if _, ok := c.Volumes[from]; !ok {
				t.Errorf("%s: volume %s is not declared", name, from)
			}
		}
	}
	checkConfig(t, map[string]map[string]any{"ConfigMap lab-sociable": {"data": map[string]any{"config.yml": c.Configs["sociable"].Content}}})
}
