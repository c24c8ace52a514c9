package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestBadLayers pulls an image in which bad layers stand between good ones. The
// pull is unaffected, the good layers are indexed, the bad ones say why not.
// The official tool gives up on the whole image.
func TestBadLayers(t *testing.T) {
	p := startProxy(t, link.Options{})
	i := image(t, realimage.ImageBad)
	pullAndCompare(t, craneProgram(), p.ref(i), i)
	entry := p.awaitIndex(t, i.Repo(), i.Digest, time.Minute)
	index := decode[v1.Manifest](t, p.get(t, manifestPath(i.Repo(), entry.Digest.String())))

	good := []string{realimage.LayerBase, realimage.LayerPython}
	var want []digest.Digest
	for _, name := range good {
		want = append(want, suite.Set.Layers[name].Digest)
	}
	var got []digest.Digest
	for _, z := range index.Layers {
		got = append(got, digest.Digest(z.Annotations["com.amazon.soci.image-layer-digest"]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the index has zTOCs of %v, want those of %v: %v", got, good, want)
	}
	if _, _, err := officialIndex(t, i, platformOf(i)); err == nil {
		t.Error("the official builder took the image; this test wants layers that it refuses")
	}
	p.checkReasons(t, i, entry.Digest)
}

// checkReasons looks at `index list`.
func (p *proxy) checkReasons(t *testing.T, i realimage.Image, index digest.Digest) {
	t.Helper()
	list, err := p.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(x harness.Index) bool { return x.Manifest == i.Digest.String() })
	if at < 0 || list[at].Index != index.String() || len(list[at].Layers) != len(i.Layers) {
		t.Fatalf("index list has no such image: %+v", list)
	}
	reasons := map[string][]string{}
	for n, l := range list[at].Layers {
		name := i.Layers[n].Name
		bad := name != realimage.LayerBase && name != realimage.LayerPython
		t.Logf("%-14s %-8s %s", name, l.State, l.Reason)
		switch {
		case l.Digest != i.Layers[n].Digest.String():
			t.Errorf("layer %d is %s, want %s", n, l.Digest, i.Layers[n].Digest)
		case !bad && (l.State != "indexed" || l.ZTOC == "" || l.Spans == 0 || l.Reason != ""):
			t.Errorf("good layer %s: %+v", name, l)
		case bad && (l.State != "skipped" || l.ZTOC != "" || l.Reason == ""):
			t.Errorf("bad layer %s: %+v, want it skipped with a reason", name, l)
		}
		reasons[l.Reason] = append(reasons[l.Reason], name)
	}
	for reason, names := range reasons {
		if len(names) > 4 {
			t.Errorf("%d layers have the same reason %q: %v", len(names), reason, names)
		}
	}
}
