package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// book is a Queue that keeps what it is told.
type book struct {
	pushes []oci.Pushed
	err    error
}

func (b *book) Pushed(_ context.Context, pushes []oci.Pushed) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.pushes = append(b.pushes, pushes...)
	return len(pushes), nil
}

const (
	oldSecret = "an old secret of the sender"
	secret    = "the secret of the sender"
)

func newHooks(b *book) *Hooks {
	return New(Options{
		Queue: b,
		Secrets: func(name string) []string {
			if name == "up" || name == "docker.io" {
				return []string{oldSecret, secret}
			}
			return nil
		},
		Library: func(name string) bool { return name == "docker.io" },
	})
}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func send(h http.Handler, method, path string, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func sign(body []byte, with string) string {
	m := hmac.New(sha256.New, []byte(with))
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// TestSamples: what the registries' own documentation shows is understood, sent
// as each of them can send it.
func TestSamples(t *testing.T) {
	repo := func(upstream, name string) oci.Repo { return oci.Repo{Upstream: upstream, Name: name} }
	harbor := digest.Digest("sha256:954b378c375d852eb3c63ab88978f640b4348b01c1b3456a024a81536dafbbf4")
	for _, tc := range []struct {
		file, path string
		header     []string
		want       []oci.Pushed
		answer     string
	}{
		{"distribution.json", "/hooks/up", []string{"Authorization", "Bearer " + secret}, []oci.Pushed{{
			Repo: repo("up", "library/test"), Tag: "latest", Digest: "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf"}}, `{"queued":1,"ignored":2}`},
		{"ecr.json", "/hooks/up", []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("aws:"+secret))}, []oci.Pushed{{
			Repo: repo("up", "my-repository-name"), Tag: "latest", Digest: "sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd12345678"}}, `{"queued":1,"ignored":0}`},
		{"harbor.json", "/hooks/up", []string{"Authorization", secret}, []oci.Pushed{{Repo: repo("up", "test-webhook/debian"), Tag: "latest", Digest: harbor}}, `{"queued":1,"ignored":0}`},
		{"harbor-cloudevents.json", "/hooks/up", []string{"Authorization", oldSecret}, []oci.Pushed{{Repo: repo("up", "test-webhook/debian"), Digest: harbor}}, `{"queued":1,"ignored":0}`},
		{"dockerhub.json", "/hooks/docker.io?token=" + strings.ReplaceAll(secret, " ", "+"), nil, []oci.Pushed{{Repo: repo("docker.io", "svendowideit/testhook"), Tag: "latest"}}, `{"queued":1,"ignored":0}`},
		{"github-registry_package.json", "/hooks/up", []string{"X-GitHub-Event", "registry_package", "X-Hub-Signature-256", ""}, []oci.Pushed{{
			Repo: repo("up", "octo-org/hello-world"), Tag: "v1.2", Digest: "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"}}, `{"queued":1,"ignored":0}`},
		{"github-package.json", "/hooks/up", []string{"X-GitHub-Event", "package", "X-Hub-Signature-256", ""}, nil, `{"queued":0,"ignored":1}`},
	} {
		t.Run(tc.file, func(t *testing.T) {
			body := sample(t, tc.file)
			for i := 0; i < len(tc.header); i += 2 {
				if tc.header[i] == "X-Hub-Signature-256" {
					tc.header[i+1] = sign(body, secret)
				}
			}
			b := &book{}
			w := send(newHooks(b), http.MethodPost, tc.path, body, tc.header...)
			if w.Code != http.StatusAccepted || strings.TrimSpace(w.Body.String()) != tc.answer {
				t.Errorf("%d %s, want %s", w.Code, w.Body, tc.answer)
			}
			if d := cmp.Diff(tc.want, b.pushes); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestRefuses: who does not know the secret is told so, and what is wrong is
// said; nothing is filed.
func TestRefuses(t *testing.T) {
	body := sample(t, "distribution.json")
	bearer := []string{"Authorization", "Bearer " + secret}
	many := `{"events":[` + strings.Repeat(`{"action":"push","target":{"repository":"a","tag":"1","digest":""}},`, 3)
	for i := range 1200 {
		many += fmt.Sprintf(`{"action":"push","target":{"repository":"a/%d","tag":"1"}},`, i)
	}
	many = strings.TrimSuffix(many, ",") + "]}"
	for _, tc := range []struct {
		name, method, path string
		body               []byte
		header             []string
		code               int
		want               string
	}{
		{"no secret", "POST", "/hooks/up", body, nil, 401, "missing or wrong"},
		{"wrong secret", "POST", "/hooks/up", body, []string{"Authorization", "Bearer " + secret + "x"}, 401, "missing or wrong"},
		{"wrong token", "POST", "/hooks/up?token=x", body, nil, 401, "missing or wrong"},
		{"empty token", "POST", "/hooks/up?token=", body, nil, 401, "missing or wrong"},
		{"signed with another", "POST", "/hooks/up", body, []string{"X-Hub-Signature-256", sign(body, "another secret!!")}, 401, "missing or wrong"},
		{"another body signed", "POST", "/hooks/up", body, []string{"X-Hub-Signature-256", sign(body[1:], secret)}, 401, "missing or wrong"},
		{"no signature, whatever else", "POST", "/hooks/up", body, append([]string{"X-Hub-Signature-256", "sha256=00"}, bearer...), 401, "missing or wrong"},
		{"no hook", "POST", "/hooks/other", body, bearer, 404, "no upstream with a hook"},
		{"nobody's", "POST", "/hooks/", body, bearer, 404, "no upstream with a hook"},
		{"GET", "GET", "/hooks/up", nil, bearer, 405, "POST"},
		{"not JSON", "POST", "/hooks/up", []byte("<xml>"), bearer, 400, "not a JSON object"},
		{"a form", "POST", "/hooks/up", []byte("payload=%7B%7D"), bearer, 400, "content type to application/json"},
		{"a list", "POST", "/hooks/up", []byte("[]"), bearer, 400, "not a JSON object"},
		{"null", "POST", "/hooks/up", []byte("null"), bearer, 400, "not a JSON object"},
		{"of another kind", "POST", "/hooks/up", []byte(`{"a":1}`), bearer, 400, "none of the distribution project's"},
		{"of another shape", "POST", "/hooks/up", []byte(`{"events":[{"action":5}]}`), bearer, 400, "as distribution's: events.action is a number"},
		{"too large", "POST", "/hooks/up", append([]byte(`{"events":"`), make([]byte, maxBody)...), bearer, 413, "at most 1 MiB"},
		{"too large, signed", "POST", "/hooks/up", make([]byte, maxBody+1), []string{"X-Hub-Signature-256", sign(body, secret)}, 413, "at most 1 MiB"},
		{"too many", "POST", "/hooks/up", []byte(many), bearer, 413, "more than 1000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &book{}
			w := send(newHooks(b), tc.method, tc.path, tc.body, tc.header...)
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.want) || len(b.pushes) > 0 {
				t.Errorf("%d %s, filed %v; want %d %q", w.Code, w.Body, b.pushes, tc.code, tc.want)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Error("the secret is told")
			}
		})
	}
	w := send(newHooks(&book{err: fmt.Errorf("100000: %w", ErrFull)}), http.MethodPost, "/hooks/up", body, bearer...)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("what can't be filed: %d %s", w.Code, w.Body)
	}
}

// TestOddEvents: what names no image is ignored, so that it is not sent for ever;
// what is told twice is filed once.
func TestOddEvents(t *testing.T) {
	d := digest.FromString("x")
	body := fmt.Appendf(nil, `{"events":[
		{"action":"push","target":{"repository":"../etc","tag":"1"}},
		{"action":"push","target":{"repository":"a","tag":"not a tag"}},
		{"action":"push","target":{"repository":"a","digest":"md5:1"}},
		{"action":"push","target":{"repository":"a"}},
		{"action":"push","target":{"repository":"app","tag":"1","digest":%[1]q}},
		{"action":"push","target":{"repository":"app","tag":"1","digest":%[1]q}},
		{"action":"push","target":{"repository":"app","digest":%[1]q}}]}`, d)
	b := &book{}
	w := send(newHooks(b), http.MethodPost, "/hooks/docker.io", body, "Authorization", secret)
	if w.Code != http.StatusAccepted || strings.TrimSpace(w.Body.String()) != `{"queued":2,"ignored":5}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	app := oci.Repo{Upstream: "docker.io", Name: "library/app"}
	if diff := cmp.Diff([]oci.Pushed{{Repo: app, Tag: "1", Digest: d}, {Repo: app, Digest: d}}, b.pushes); diff != "" {
		t.Error(diff)
	}
}

// fuzz has one parser read anything: it neither panics nor gives what is no name.
func fuzz(f *testing.F, files []string, parser func([]byte) (notification, error)) {
	for _, file := range files {
		f.Add(sample(f, file))
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	h := newHooks(&book{})
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := parser(body)
		if err != nil && len(n.pushes) > 0 {
			t.Errorf("%v, and %+v", err, n.pushes)
		}
		pushes, _ := h.images("up", n)
		for _, p := range pushes {
			if oci.CheckName(p.Repo.Name) != nil || p.Tag == "" && p.Digest == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}

func FuzzDistribution(f *testing.F) { fuzz(f, []string{"distribution.json"}, parseDistribution) }
func FuzzECR(f *testing.F)          { fuzz(f, []string{"ecr.json"}, parseECR) }
func FuzzDockerHub(f *testing.F)    { fuzz(f, []string{"dockerhub.json"}, parseDockerHub) }
func FuzzHarbor(f *testing.F) {
	fuzz(f, []string{"harbor.json", "harbor-cloudevents.json"}, parseHarbor)
}

func FuzzGitHub(f *testing.F) {
	fuzz(f, []string{"github-registry_package.json", "github-package.json"}, func(body []byte) (notification, error) {
		return parseGitHub("", body)
	})
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	fuzz(f, files, func(body []byte) (notification, error) { return parse(http.Header{}, body) })
}

// TestWhyIsLoggedOnce: the line about a notification that is not understood says why.
func TestWhyIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	h := newHooks(&book{})
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	w := send(h, http.MethodPost, "/hooks/up", []byte("none"), "Authorization", "Bearer "+secret)
	if n := strings.Count(log.String(), errJSON.Error()); w.Code != http.StatusBadRequest || n != 1 {
		t.Errorf("%d, and said %d times in\n%s", w.Code, n, &log)
	}
}
