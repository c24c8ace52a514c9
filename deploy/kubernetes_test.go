package deploy

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func init() {
	if err := monitoring.AddToScheme(scheme.Scheme); err != nil {
		panic(err)
	}
}

// checkKinds: every object is one of Kubernetes', or of Prometheus' operator, with
// no field that it does not have and no value of another type. What a cluster checks
// besides, it does when it takes them.
func checkKinds(t *testing.T, got map[string]map[string]any) {
	t.Helper()
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for name, o := range got {
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := strict.Decode(body, nil, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKindsAreChecked: a field in the wrong place is found.
func TestKindsAreChecked(t *testing.T) {
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, text := range []string{
		`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x"},"spec":{"replica":1}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"ports":[{"port":"http"}]}}`,
		`{"apiVersion":"monitoring.coreos.com/v1","kind":"ServiceMonitor","metadata":{"name":"x"},"spec":{"endpoints":[{"tls":{}}]}}`,
		`{"apiVersion":"apps/v1beta1","kind":"StatefulSot","metadata":{"name":"x"}}`,
	} {
		if _, _, err := strict.Decode([]byte(text), nil, nil); err == nil {
			t.Errorf("nothing is said of %s", text)
		}
	}
}

// TestPodSecurity: the server's pod may run in a namespace whose policy is
// "restricted", the strictest of Kubernetes' pod security standards.
func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range []string{"", "tlsSecret: own\nhtpasswdSecret: users\nenvFromSecret: passwords\npersistence: {enabled: false}\n"} {
		got, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(got["StatefulSet lab-sociable"])
		if err != nil {
			t.Fatal(err)
		}
		var set apps.StatefulSet
		if err := json.Unmarshal(body, &set); err != nil {
			t.Fatal(err)
		}
		check := func() policy.AggregateCheckResult {
			return policy.AggregateCheckResults(evaluator.EvaluatePod(
				api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &set.Spec.Template.ObjectMeta, &set.Spec.Template.Spec))
		}
		if r := check(); !r.Allowed {
			t.Errorf("%q: %s: %s", values, r.ForbiddenReason(), r.ForbiddenDetail())
		}
		set.Spec.Template.Spec.Containers[0].SecurityContext = nil
		if check().Allowed {
			t.Error("a container without a security context would pass, too")
		}
	}
}

// TestComposeIsCompose: the file is what the Compose specification says, read by
// Compose's own loader.
func TestComposeIsCompose(t *testing.T) {
	load := func(file string, body []byte) (*types.Project, error) {
		return loader.LoadWithContext(context.WithoutCancel(t.Context()), types.ConfigDetails{
			WorkingDir: ".", ConfigFiles: []types.ConfigFile{{Filename: file, Content: body}}, Environment: types.Mapping{"VERSION": "1.2.3"},
		}, func(o *loader.Options) { o.SetProjectName("sociable", true) })
	}
	p, err := load("compose.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Services["sociable"]
	if v := s.Build.Args["VERSION"]; v == nil || *v != "1.2.3" {
		t.Errorf("the version that is built in: %v", v)
	}
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.Ports) != 2 {
		t.Errorf("read-only %t, dropped %v, ports %v", s.ReadOnly, s.CapDrop, s.Ports)
	}
	if c := p.Services["prometheus"].DependsOn["sociable"].Condition; c != types.ServiceConditionHealthy {
		t.Errorf("prometheus waits for: %q", c)
	}
	if _, err := load("x.yml", []byte("services: {a: {image: x, read_onli: true}}\n")); err == nil || !strings.Contains(err.Error(), "read_onli") {
		t.Errorf("of a misspelt key: %v", err)
	}
}
