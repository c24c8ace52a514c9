package imagelist

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	for name, tt := range map[string]struct {
		text    string
		want    []string // "line name"
		ignored []string
		err     string
	}{
		"empty":          {"\n# nothing\n", nil, nil, ""},
		"list":           {"\ufeffredis:7\n\n# base\nghcr.io/acme/app:1 # the app\n  quay.io/a/b@sha256:" + strings.Repeat("a", 64) + "\nredis:7\n", []string{"1 redis:7", "4 ghcr.io/acme/app:1", "5 quay.io/a/b@sha256:" + strings.Repeat("a", 64)}, nil, ""},
		"one name":       {"redis", []string{"1 redis"}, nil, ""},
		"windows":        {"redis:7\r\nnginx\r\n", []string{"1 redis:7", "2 nginx"}, nil, ""},
		"bad line":       {"redis:7\nnot an image\nUpper\n", []string{"1 redis:7"}, nil, "line 2: \"not an image\" is no image's name"},
		"yaml sequence":  {"- redis:7\n- nginx\n", []string{"1 redis:7", "2 nginx"}, nil, ""},
		"json sequence":  {`["redis:7", "nginx", 7]`, []string{"1 redis:7", "1 nginx", "1 7"}, nil, ""},
		"not documents":  {"a: b: c\n", nil, nil, "neither a list of images nor YAML or JSON"},
		"no documents":   {"---\n---\n", nil, nil, ""},
		"json documents": {"{\"spec\":{\"containers\":[{\"image\":\"a:1\"}]}}\n---\n{\"image\":\"b:2\"}", []string{"1 a:1", "3 b:2"}, nil, ""},
		"kubernetes": {`---
# Source: chart/templates/app.yaml
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
        - {name: init, image: busybox:1.36}
      containers:
        - name: app
          image: "ghcr.io/acme/app:1.2"
          env: [{name: HELPER_IMAGE, value: "not/looked:at"}]
        - name: again
          image: ghcr.io/acme/app:1.2
      ephemeralContainers: [{image: debug}]
      volumes:
        - image: {reference: quay.io/models/m:1, pullPolicy: Always}
---
kind: List
items:
  - spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: cron:1}]}}}}}
`, []string{"9 busybox:1.36", "12 ghcr.io/acme/app:1.2", "16 debug", "18 quay.io/models/m:1", "22 cron:1"}, []string{
			`line 13: spec.template.spec.containers[0].env[0].value: "not/looked:at" may be an image, but is a variable's value`,
		}, ""},
		"operators": {`kind: Cluster
spec:
  imageName: ghcr.io/cloudnative-pg/postgresql:16
  images: ["quay.io/a/one:1", {name: two, image: "quay.io/a/two:1"}, three, "quay.io/*"]
  machine: {imageName: ubuntu-22.04}
  disk: {image: "http://x/y.qcow2"}
  empty: {imageName: "", image: ""}
status: {image: "quay.io/a/old:1"}
---
kind: ConfigMap
data: {image: "quay.io/a/not:me", images: ["quay.io/a/not:me"]}
---
kind: CustomResourceDefinition
spec: {example: {image: "quay.io/a/not:me"}}
`, []string{"3 ghcr.io/cloudnative-pg/postgresql:16", "4 quay.io/a/one:1", "4 quay.io/a/two:1"}, []string{
			`line 4: spec.images[2]: "three" may be an image, but has neither a registry, nor a tag, nor a path`,
			`line 4: spec.images[3]: "quay.io/*" is a pattern`,
			`line 5: spec.machine.imageName: "ubuntu-22.04" may be an image, but has neither a registry, nor a tag, nor a path`,
			`line 6: spec.disk.image: "http://x/y.qcow2" is no image's name: invalid reference format`,
			`line 7: spec.empty.image: is empty`,
			`line 8: status.image: "quay.io/a/old:1" may be an image, but nothing runs it there`,
			`line 11: data.image: "quay.io/a/not:me" may be an image, but nothing runs it there`,
			`line 14: spec.example.image: "quay.io/a/not:me" may be an image, but nothing runs it there`,
		}, ""},
		"bad": {`kind: Pod
spec:
  initContainers: [{image: "lab/app:"}, {image: ""}, {image: "http://x/y"}]
  containers: [{image: "Bad Image"}]
  volumes: [{image: {reference: "{{ .x }}"}}]
  imageName: "lab/app:"
  image: lab/App
`, nil, []string{
			`bad line 3: spec.initContainers[0].image: "lab/app:" is no image's name: invalid reference format`,
			`bad line 3: spec.initContainers[1].image: is empty`,
			`bad line 3: spec.initContainers[2].image: "http://x/y" is no image's name: invalid reference format`,
			`bad line 4: spec.containers[0].image: "Bad Image" is no image's name: invalid reference format: repository name (library/Bad Image) must be lowercase`,
			`bad line 5: spec.volumes[0].image.reference: "{{ .x }}" is a template that was not filled in`,
			`bad line 6: spec.imageName: "lab/app:" is no image's name: invalid reference format`,
			`bad line 7: spec.image: "lab/App" is no image's name: invalid reference format: repository name (lab/App) must be lowercase`,
		}, ""},
		"no image": {`kind: Pod
spec:
  containers:
  - {name: a, image: {x: 1}}
  - {name: b, image: [lab/a:1]}
  - {name: c}
  - {name: d, image: 3}
  - {name: e, image: "3"}
  - {name: f, image: true}
---
x: &base {image: base:1}
y: &more {<<: *base}
kind: Deployment
spec: {template: {spec: {containers: [{<<: *more, name: merged}, {<<: [*base], name: too}, {image: *base}]}}}
---
kind: Prometheus
spec: {containers: [{name: patched}], image: 3, other: {image: [a]}}
`, []string{"8 3", "11 base:1"}, []string{
			`bad line 4: spec.containers[0].image: is a mapping, and no image's name`,
			`bad line 5: spec.containers[1].image: is a list, and no image's name`,
			`bad line 6: spec.containers[2]: is a container without an image`,
			`bad line 7: spec.containers[3].image: "3" is a number, and no image's name; quote it if it is one`,
			`bad line 9: spec.containers[5].image: "true" is a truth value, and no image's name; quote it if it is one`,
			`bad line 14: spec.template.spec.containers[2].image: is a mapping, and no image's name`,
			`line 17: spec.containers[0]: is a container without an image`,
			`line 17: spec.image: "3" is a number, and no image's name; quote it if it is one`,
			`line 17: spec.other.image: is a list, and no image's name`,
		}, ""},
		"custom resources": {`apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec:
  image: quay.io/prometheus/prometheus:v3
  sidecarImage: quay.io/thanos/thanos:v1
  baseImage: plain
  template: {image: "{{ .Values.image }}"}
  other: {image: ""}
  split: {image: {repository: quay.io/a/b, tag: "1"}}
  host: {image: {url: "http://x/y.qcow2"}}
  bad: {image: Not An Image}
`, []string{"4 quay.io/prometheus/prometheus:v3"}, []string{
			`line 5: spec.sidecarImage: "quay.io/thanos/thanos:v1" may be an image, but is under another key than image`,
			`bad line 7: spec.template.image: "{{ .Values.image }}" is a template that was not filled in`,
			`line 8: spec.other.image: is empty`,
			`line 9: spec.split.image: is in parts; name it on a line of its own`,
			`bad line 11: spec.bad.image: "Not An Image" is no image's name: invalid reference format: repository name (library/Not An Image) must be lowercase`,
		}, ""},
		"aliases": {"a: &x {image: one}\nb: *x\nc: &n two:2\nd: {image: *n}\nloop: &l [*l]\n", []string{"1 one", "3 two:2"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			images, ignored, err := Read(strings.NewReader(tt.text))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			var got, left []string
			for _, i := range images {
				got = append(got, strconv.Itoa(i.Line)+" "+i.Name)
			}
			for _, g := range ignored {
				word := g.String()
				if g.Bad {
					word = "bad " + word
				}
				left = append(left, word)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.ignored, left); diff != "" {
				t.Errorf("ignored (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadTooLong(t *testing.T) {
	long := strings.NewReader(strings.Repeat("# 34567890123456789012345678901\n", MaxBytes/32) + "redis\n")
	if _, _, err := Read(long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v, want that it is too long", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"redis:7\n# x\n", "- a\n- b\n", `{"image":"x"}`, "a: &a [*a, {image: b}]\n---\nimage: {reference: c}", "---\nimage: !!null\n", "%YAML 1.1\n---\nimage: >\n  x\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		images, ignored, err := Read(strings.NewReader(text))
		seen := map[string]bool{}
		for _, i := range images {
			if check(i.Name) != nil || i.Line < 1 || seen[i.Name] {
				t.Errorf("found %q at line %d", i.Name, i.Line)
			}
			seen[i.Name] = true
		}
		for _, g := range ignored {
			if g.Why == "" || len(g.String()) > 100_000+len(text) {
				t.Errorf("ignored %+v", g)
			}
		}
		_ = err
	})
}
