package e2e

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestNameTricks sends names and digests that a store or an upstream could
// stumble over. None gets further than the parser.
func TestNameTricks(t *testing.T) {
	const hex = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	p := startProxy(t, link.Options{})
	before := p.files(t)
	for _, test := range []struct {
		path  string
		codes []string
	}{
		{repo("../../../../etc/passwd") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("e2e/../../secret") + "/blobs/sha256:" + hex, []string{"NAME_INVALID"}},
		{repo("%2e%2e/%2e%2e/etc") + "/blobs/sha256:" + hex, []string{"NAME_INVALID"}},
		{repo("e2e%2f..%2f..%2fetc") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("e2e//toolchain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("./e2e/toolchain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("E2E/Toolchain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("e2e/tool%00chain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("e2e/tool%0d%0achain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("e2e/tool%20chain") + "/blobs/sha256:" + hex, []string{"NAME_INVALID"}},
		{repo("e2e\\toolchain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo("-e2e/toolchain") + "/manifests/1", []string{"NAME_INVALID"}},
		{repo(strings.Repeat("a", 300)) + "/manifests/1", []string{"NAME_INVALID"}},
		{"/v2/e2e/../x/manifests/1?ns=" + upstream, []string{"NAME_INVALID"}},

		{repo("e2e/toolchain") + "/blobs/sha256:../../../../etc/passwd", []string{"DIGEST_INVALID", "NAME_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/sha256:%2e%2e%2f%2e%2e%2fmeta.db", []string{"DIGEST_INVALID", "NAME_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/sha256:" + strings.ToUpper(hex), []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/sha256:" + hex[1:], []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/sha256:" + hex + "0", []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/sha512:" + hex, []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/" + hex, []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/blobs/sha256:" + hex[:60] + "%00%00%00%00", []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/manifests/sha256:" + hex[1:], []string{"DIGEST_INVALID", "MANIFEST_INVALID", "TAG_INVALID"}},
		{repo("e2e/toolchain") + "/manifests/sha256:%2e%2e%2fmeta.db", []string{"DIGEST_INVALID", "MANIFEST_INVALID", "TAG_INVALID", "NAME_INVALID"}},
		{repo("e2e/toolchain") + "/manifests/%2e%2e", []string{"MANIFEST_INVALID", "TAG_INVALID", "NAME_INVALID"}},
		{repo("e2e/toolchain") + "/manifests/-1", []string{"MANIFEST_INVALID", "TAG_INVALID"}},
		{repo("e2e/toolchain") + "/manifests/" + strings.Repeat("a", 129), []string{"MANIFEST_INVALID", "TAG_INVALID"}},
		{repo("e2e/toolchain") + "/referrers/sha256:" + hex[1:], []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/referrers/1", []string{"DIGEST_INVALID"}},
		{repo("e2e/toolchain") + "/referrers/sha256:%2e%2e%2f", []string{"DIGEST_INVALID", "NAME_INVALID"}},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := p.do(t, method, test.path)
			if a.StatusCode != http.StatusBadRequest || method == http.MethodGet && !slices.Contains(test.codes, a.code()) {
				t.Errorf("%s %s: %s with code %q, want 400 with %q\n%s", method, test.path, a.Status, a.code(), test.codes, a.body)
			}
		}
	}
	if a := p.get(t, repo("e2e/toolchain")+"/manifests/a%2fb"); a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusBadRequest || a.code() == "" {
		t.Errorf("a tag with a slash: %s with code %q", a.Status, a.code())
	}
	for _, upload := range []string{
		"/blobs/uploads/", "/blobs/uploads/../../../etc/passwd",
		"/blobs/uploads/?mount=sha256:../../x&from=..%2f..", "/blobs/uploads/?digest=sha256:..%2fx",
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch} {
			a := p.do(t, method, repo("e2e/toolchain")+upload)
			if a.StatusCode < 400 || a.StatusCode > 405 || a.code() == "" {
				t.Errorf("%s %s: %s with code %q, want it refused with one of the specification's codes", method, upload, a.Status, a.code())
			}
		}
	}
	if rs := p.link.Requests(); len(rs) != 0 {
		t.Errorf("the upstream was asked: %v", rs)
	}
	if after := p.files(t); !slices.Equal(before, after) {
		t.Errorf("files before %v, after %v", before, after)
	}
}

// files lists what is in the store's folder.
func (p *proxy) files(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(p.Data, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestClosedWorld names hosts that are not configured, one of them a server that
// would notice.
func TestClosedWorld(t *testing.T) {
	var dialled atomic.Int32
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	defer trap.Close()

	l := startLink(t, suite.Registry.URL(), link.Options{})
	config := filepath.Join(t.TempDir(), "config.yml")
	body := "default_upstream: \"\"\nupstreams:\n  " + upstream + ":\n    url: " + l.URL() + "\n"
	if err := os.WriteFile(config, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := harness.NewProxy(suite.Programs, t.TempDir(), nil, "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{x, l}
	p.start(t)
	t.Cleanup(func() { _ = x.Stop() })

	host := trap.Addr().String()
	i := image(t, realimage.ImageSmall)
	for _, path := range []string{
		"/v2/unknown/" + i.Repo() + "/manifests/1",
		"/v2/" + i.Repo() + "/manifests/1",
		"/v2/busybox/manifests/latest",
		"/v2/registry.example.com/" + i.Repo() + "/manifests/1",
		"/v2/127.0.0.1/" + i.Repo() + "/manifests/1",
		"/v2/localhost/" + i.Repo() + "/blobs/" + i.Config.String(),
		"/v2/" + i.Repo() + "/manifests/1?ns=unknown",
		"/v2/" + i.Repo() + "/manifests/1?ns=" + url.QueryEscape(host),
		"/v2/" + i.Repo() + "/manifests/1?ns=" + url.QueryEscape("http://"+host+"/"),
		"/v2/" + i.Repo() + "/blobs/" + i.Config.String() + "?ns=registry.example.com",
		"/v2/" + i.Repo() + "/referrers/" + i.Digest.String() + "?ns=registry.example.com",
	} {
		for _, header := range [][]string{nil, {"Host", host}} {
			if a := p.get(t, path, header...); a.StatusCode != http.StatusNotFound || a.code() != "NAME_UNKNOWN" {
				t.Errorf("%s: %s with code %q, want 404 NAME_UNKNOWN", path, a.Status, a.code())
			}
		}
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("a host that is not configured was dialled %d times", n)
	}
	if rs := l.Requests(); len(rs) != 0 {
		t.Errorf("the configured upstream was asked for other names: %v", rs)
	}
	if a := p.get(t, manifestPath(i.Repo(), "1")+"?ns=unknown", "Accept", i.MediaType); a.StatusCode != http.StatusOK {
		t.Errorf("an unknown ns beside a known prefix: %s, want it ignored", a.Status)
	}
}
