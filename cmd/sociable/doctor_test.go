package main

import (
	"strings"
	"testing"

	"github.com/sociable/sociable/internal/doctor"
)

// TestDoctor asks the doctor about a real server: before anything was pulled
// through it, after, and about what is not there.
func TestDoctor(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	srv := startServer(t, "--config", s.config)
	image := srv.addr + "/up/acme/app:1"
	walk := func(args ...string) (doctor.Report, int) {
		t.Helper()
		out, _, code := runSociable(t, "", append([]string{"doctor", "--json"}, args...)...)
		return decodeJSON[[]doctor.Report](t, out)[0], code
	}
	if r, code := walk("--platform", "linux/amd64", image); code != 1 || r.Findings[len(r.Findings)-1].Step != "referrers" {
		t.Errorf("before the first pull: exit code %d, %+v", code, r)
	}
	must(t, "index", "create", "up/acme/app:1", "--platform", "linux/amd64", "--min-layer-size", "10000", "--data", srv.dir)
	if r, code := walk("--platform", "linux/amd64", image); code != 0 || r.Worst() != doctor.OK || r.Findings[len(r.Findings)-1].Step != "range" {
		t.Errorf("an indexed image: exit code %d, %+v", code, r)
	}
	if out := must(t, "healthcheck", "--data", srv.dir); out != "ready\n" {
		t.Errorf("healthcheck: %q", out)
	}
	if _, errs, code := runSociable(t, "", "healthcheck", "--data", t.TempDir()); code != 1 || !strings.Contains(errs, "no server answers") {
		t.Errorf("healthcheck without a server: exit code %d, %s", code, errs)
	}
	if r, code := walk("--platform", "linux/amd64", "--proxy", srv.addr, "up/acme/app:1"); code != 0 || r.Worst() != doctor.OK {
		t.Errorf("named without the proxy: exit code %d, %+v", code, r)
	}
	if r, code := walk("--proxy", srv.addr); code != 0 || r.Worst() != doctor.OK {
		t.Errorf("the proxy alone: exit code %d, %+v", code, r)
	}
	out, errs, code := runSociable(t, "", "doctor", "--node", "--snapshotter-config", "/nowhere", "--containerd-config", "/nowhere", "--hosts-dir", "/nowhere", srv.addr+"/up/acme/none:1")
	for _, want := range []string{"FAIL  snapshotter", "FAIL  containerd", "WARN  hosts", "FAIL  manifest", "→ check the name"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if code != 1 || !strings.Contains(errs, "does not work") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// TestDoctorReference: whichever way an image is named.
func TestDoctorReference(t *testing.T) {
	f := doctorFlags{proxy: "proxy.example"}
	for image, want := range map[string]string{
		"redis:7":                                    "proxy.example/redis:7",
		"app":                                        "proxy.example/app",
		"lab/acme/app:1":                             "proxy.example/lab/acme/app:1",
		"docker.io/redis":                            "proxy.example/docker.io/library/redis",
		"ghcr.io/acme/app":                           "proxy.example/ghcr.io/acme/app",
		"proxy.example/ghcr.io/acme/app:1":           "proxy.example/ghcr.io/acme/app:1",
		"proxy.example/local/app:1":                  "proxy.example/local/app:1",
		"other.example/ghcr.io/acme/app:1":           "other.example/ghcr.io/acme/app:1",
		"127.0.0.1:5000/lab/app:1":                   "127.0.0.1:5000/lab/app:1",
		"two words":                                  "",
		"redis@sha256:" + strings.Repeat("0", 64):    "proxy.example/redis@sha256:" + strings.Repeat("0", 64),
		"localhost:5000/docker.io/library/redis:7.2": "localhost:5000/docker.io/library/redis:7.2",
	} {
		got, err := f.reference(image)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", image, got, err, want)
		}
	}
}
