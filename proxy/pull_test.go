package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// multi puts an image for two platforms into g, as a/app:1, with an attestation
// of the first one.
func multi(g *registry) (root digest.Digest, manifests map[string]digest.Digest, layers map[string][]byte) {
	manifests, layers = map[string]digest.Digest{}, map[string][]byte{}
	var entries []string
	for i, arch := range []string{"amd64", "arm64"} {
		layer := random(300<<10+i, byte(40+i))
		config := g.addBlob("a/app", []byte(`{"architecture":"`+arch+`"}`))
		d := g.addBlob("a/app", layer)
		layers[arch] = layer
		body := strings.Replace(image(config, d, len(layer)), `"size":2}`, fmt.Sprintf(`"size":%d}`, 24), 1)
		manifests[arch] = g.addManifest("a/app", "by-"+arch, v1.MediaTypeImageManifest, body)
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}`,
			v1.MediaTypeImageManifest, manifests[arch], len(body), arch))
	}
	about := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageManifest + `","config":{"mediaType":"application/x","digest":"` +
		oci.EmptyDigest.String() + `","size":2},"layers":[]}`
	g.addBlob("a/app", oci.EmptyJSON)
	manifests["attestation"] = g.addManifest("a/app", "about", v1.MediaTypeImageManifest, about)
	entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"unknown","architecture":"unknown"},`+
		`"annotations":{"vnd.docker.reference.digest":%q}}`, v1.MediaTypeImageManifest, manifests["attestation"], len(about), manifests["amd64"]))
	root = g.addManifest("a/app", "1", v1.MediaTypeImageIndex,
		`{"schemaVersion":2,"mediaType":"`+v1.MediaTypeImageIndex+`","manifests":[`+strings.Join(entries, ",")+`]}`)
	return root, manifests, layers
}

var (
	app  = oci.Repo{Upstream: "up", Name: "a/app"}
	tag1 = oci.Reference{Tag: "1"}
)

func platforms(t *testing.T, words ...string) (ps []v1.Platform) {
	t.Helper()
	for _, w := range words {
		p, err := oci.ParsePlatform(w)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

func TestPull(t *testing.T) {
	for name, tt := range map[string]struct {
		platforms []string
		want      []string // manifests below the root
		blobs     int
	}{
		"one platform":   {[]string{"linux/amd64"}, []string{"amd64", "attestation"}, 3},
		"another":        {[]string{"linux/arm64/v8"}, []string{"arm64"}, 2},
		"both by name":   {[]string{"linux/amd64", "linux/arm64"}, []string{"amd64", "arm64", "attestation"}, 5},
		"all platforms":  {nil, []string{"amd64", "arm64", "attestation"}, 5},
		"usual spelling": {[]string{"linux/x86_64"}, []string{"amd64", "attestation"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			root, manifests, _ := multi(g)
			var last oci.PullProgress
			o := oci.PullOptions{Platforms: platforms(t, tt.platforms...), Progress: func(p oci.PullProgress) { last = p }}
			got, err := s.p.Pull(t.Context(), app, tag1, o)
			if err != nil {
				t.Fatal(err)
			}
			want := []digest.Digest{root}
			for _, m := range tt.want {
				want = append(want, manifests[m])
			}
			var have []digest.Digest
			for _, m := range got.Manifests {
				have = append(have, m.Digest)
			}
			if diff := cmp.Diff(want, have); diff != "" || got.Root.Digest != root || len(got.Blobs) != tt.blobs {
				t.Errorf("%d blobs, root %s, manifests (-want +got):\n%s", len(got.Blobs), got.Root.Digest, diff)
			}
			if last.Blobs != tt.blobs || last.OfBlobs != tt.blobs || last.Bytes != last.OfBytes || got.Fetched != last.Bytes {
				t.Errorf("last progress %+v, fetched %d", last, got.Fetched)
			}
			for _, b := range got.Blobs {
				if _, err := s.store.Stat(t.Context(), b.Digest); err != nil {
					t.Errorf("blob %s: %v", b.Digest, err)
				}
			}
			g.take()
			again, err := s.p.Pull(t.Context(), app, tag1, o)
			if rs := g.take(); err != nil || len(rs) != 0 || again.Fetched != 0 {
				t.Errorf("once more: %v, %d bytes, requests %v", err, again.Fetched, rs)
			}
			o.Here = true
			if _, err := s.p.Pull(t.Context(), app, tag1, o); err != nil {
				t.Errorf("of what is here: %v", err)
			}
		})
	}
}

func TestPullRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		repo   oci.Repo
		ref    oci.Reference
		o      oci.PullOptions
		change func(*registry)
		want   string
	}{
		"no such platform": {app, tag1, oci.PullOptions{Platforms: []v1.Platform{{OS: "linux", Architecture: "s390x"}}}, nil,
			"up/a/app has no image for linux/s390x; it has linux/amd64, linux/arm64"},
		"no such tag":       {app, oci.Reference{Tag: "2"}, oci.PullOptions{}, nil, "2 is not known in up/a/app"},
		"no such upstream":  {oci.Repo{Upstream: "else", Name: "a"}, tag1, oci.PullOptions{}, nil, `no upstream "else" is configured here`},
		"nothing here":      {app, tag1, oci.PullOptions{Here: true}, nil, "1 is not known in up/a/app"},
		"a layer is gone":   {app, tag1, oci.PullOptions{}, func(g *registry) { clear(g.blobs) }, "is not known to this repository"},
		"a layer is broken": {app, tag1, oci.PullOptions{}, func(g *registry) { spoil(g) }, "do not match the digest"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			multi(g)
			if tt.change != nil {
				tt.change(g)
			}
			_, err := s.p.Pull(t.Context(), tt.repo, tt.ref, tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// spoil changes a byte of each blob that is served.
func spoil(g *registry) {
	for k, b := range g.blobs {
		wrong := append([]byte(nil), b...)
		wrong[0] ^= 1
		g.blobs[k] = wrong
	}
}

// TestPullOfAnotherRepository holds that what is here under another name is
// proven before it counts as this repository's.
func TestPullOfAnotherRepository(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	secret := random(200<<10, 9)
	d := g.addBlob("private", secret)
	m := g.addManifest("private", "1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(secret)))
	g.addBlob("private", oci.EmptyJSON)
	if _, err := s.p.Pull(t.Context(), oci.Repo{Upstream: "up", Name: "private"}, tag1, oci.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	g.addManifest("public", "1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, d, len(secret)))
	for _, here := range []bool{false, true} {
		if _, err := s.p.Pull(t.Context(), oci.Repo{Upstream: "up", Name: "public"}, tag1, oci.PullOptions{Here: here}); err == nil {
			t.Errorf("here %t: a blob of another repository counts as this one's", here)
		}
		ref := oci.Reference{Digest: m}
		if _, err := s.p.Pull(t.Context(), oci.Repo{Upstream: "up", Name: "other"}, ref, oci.PullOptions{Here: here}); err == nil {
			t.Errorf("here %t: a manifest of another repository counts as this one's", here)
		}
	}
}

func TestPullWithoutRoom(t *testing.T) {
	g := newRegistry(t)
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = 256 << 10 })
	multi(g)
	_, err := s.p.Pull(t.Context(), app, tag1, oci.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "does not fit") || !errors.Is(err, storage.ErrFull) {
		t.Errorf("%v, want that it does not fit", err)
	}
}

// TestPullSharesTransfers pulls while clients ask for the same blob.
func TestPullSharesTransfers(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	_, _, layers := multi(g)
	layer := digest.FromBytes(layers["arm64"])
	hold, begun := make(chan struct{}), make(chan struct{}, 8)
	g.serve = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasSuffix(r.URL.Path, layer.String()) {
			begun <- struct{}{}
			<-hold
		}
		return false
	}
	pulled := make(chan error, 1)
	go func() {
		_, err := s.p.Pull(t.Context(), app, tag1, oci.PullOptions{Platforms: platforms(t, "linux/arm64")})
		pulled <- err
	}()
	<-begun
	served := make(chan answer, 1)
	go func() { served <- s.do(t, http.MethodGet, "/v2/up/a/app/blobs/"+layer.String()) }()
	close(hold)
	if err := <-pulled; err != nil {
		t.Error(err)
	}
	if a := <-served; digest.FromBytes(a.body) != layer {
		t.Errorf("client: %d, %d bytes", a.status, len(a.body))
	}
	n := 0
	for _, r := range g.take() {
		if r == "GET blobs" {
			n++
		}
	}
	if n != 2 { // config and layer
		t.Errorf("%d requests for blobs, want 2", n)
	}
}

// TestPullWaitsAtItsGate holds that only what has to be fetched waits, and that
// a caller who gives up is not kept.
func TestPullWaitsAtItsGate(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	multi(g)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked := errors.New("the gate is shut")
	o := oci.PullOptions{Gate: func(context.Context) error { return asked }}
	if _, err := s.p.Pull(ctx, app, tag1, o); !errors.Is(err, asked) {
		t.Errorf("%v, want the gate's error", err)
	}
	if _, err := s.p.Pull(ctx, app, tag1, oci.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.p.Pull(ctx, app, tag1, o); err != nil {
		t.Errorf("with everything here: %v", err)
	}
}

func TestName(t *testing.T) {
	hub := &Upstream{Name: "docker.io", Library: true, Hosts: []string{"hub.lan"}}
	p := &Proxy{}
	table, err := newRoutes([]*Upstream{hub, {Name: "ghcr.io"}, {Name: "lab", Aliases: []string{"l"}}}, "docker.io")
	if err != nil {
		t.Fatal(err)
	}
	p.routing.Store(table)
	d := digest.FromString("x").String()
	for word, want := range map[string]string{
		"redis":                       "docker.io/library/redis latest",
		"redis:7":                     "docker.io/library/redis 7",
		"docker://redis:7":            "docker.io/library/redis 7",
		"acme/app":                    "docker.io/acme/app latest",
		"docker.io/redis:7":           "docker.io/library/redis 7",
		"ghcr.io/acme/app@" + d:       "ghcr.io/acme/app " + d,
		"ghcr.io/acme/app:1@" + d:     "ghcr.io/acme/app " + d,
		"lab/x:1":                     "lab/x 1",
		"l/x:1":                       "lab/x 1",
		"127.0.0.1:5000/lab/x:1":      "lab/x 1",
		"localhost/ghcr.io/a/b":       "ghcr.io/a/b latest",
		"cache.lan:5000/docker.io/a":  "docker.io/library/a latest",
		"hub.lan/a/b:2":               "docker.io/a/b 2",
		"quay.io/a/b":                 `no upstream "quay.io" is configured here`,
		"ghcr.io/acme/App":            "invalid repository name",
		"redis:7:8":                   "invalid",
		"redis@sha256:12":             "invalid digest",
		"":                            "invalid repository name",
		"ghcr.io":                     "is an upstream",
		"../etc/passwd":               `no upstream ".." is configured here`,
		"ghcr.io/acme/app:" + d:       "invalid",
		"https://ghcr.io/acme/app:v1": "invalid",
	} {
		repo, ref, err := p.Name(word)
		got := repo.String() + " " + ref.String()
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q is %q, want %q", word, got, want)
		}
	}
}
