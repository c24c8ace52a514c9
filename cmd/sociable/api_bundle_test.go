package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sociable/sociable/web"
)

// TestBundleByAPI moves an image from one server to another through the admin
// listeners of both, and has the second one checked and collected.
func TestBundleByAPI(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	from, to := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	startServer(t, "--config", s.config, "--admin", from)
	for body, want := range map[string]string{
		`{}`:                                         "name the images",
		`{"names":["UP/Acme:1"]}`:                    "NAME_INVALID",
		`{"names":["elsewhere.example/a"]}`:          "NAME_UNKNOWN",
		`{"names":["up/acme/none:1"]}`:               "nothing was written: 1 of 1 image failed: up/acme/none:1",
		`{"names":["up/acme/app:1"],"no_pull":true}`: "nothing was written",
		`{"names":["up/acme/app:1"],"x":1}`:          "not the JSON",
	} {
		if status, said := tell(t, "http://"+from+"/api/v1/export", body); status/100 != 4 || !strings.Contains(said, want) {
			t.Errorf("%s: %d %s, want %q", body, status, said, want)
		}
	}
	status, file := tell(t, "http://"+from+"/api/v1/export", `{"names":["up/acme/app:1"]}`)
	if status != http.StatusOK {
		t.Fatalf("export: %d %s", status, file)
	}
	s.Close() // the upstream is gone

	dead := startServer(t, "--config", deadConfig(t), "--admin", to)
	url := "http://" + to + "/api/v1/import"
	for _, tt := range []struct {
		query, kind string
		body        string
		status      int
		want        string
	}{
		{"", "text/plain", file, http.StatusUnsupportedMediaType, "application/x-tar"},
		{"", "application/x-tar", "no bundle", http.StatusBadRequest, "the body is no bundle"},
		{"", "application/x-tar", file[:len(file)/2], http.StatusBadRequest, "it ends early"},
		{"?no_pin=x", "application/x-tar", file, http.StatusBadRequest, "no_pin is true or false"},
		{"?pin=false", "application/x-tar", file, http.StatusBadRequest, "there is no parameter"},
	} {
		if status, said := upload(t, url+tt.query, tt.kind, tt.body); status != tt.status || !strings.Contains(said, tt.want) {
			t.Errorf("%s %s: %d %s, want %d %q", tt.query, tt.kind, status, said, tt.status, tt.want)
		}
	}
	status, said := upload(t, url, "application/x-tar", file)
	if status != http.StatusOK {
		t.Fatalf("import: %d %s", status, said)
	}
	got := decodeJSON[web.ImportReport](t, said)
	if len(got.Images) != 1 || !got.Images[0].Pinned || got.Images[0].Index != "same" || got.Blobs == 0 {
		t.Errorf("import: %s", said)
	}
	pullFrom(t, dead.addr, "up/acme/app:1", nil)

	var checked web.CheckEvent
	lastLine(t, "http://"+to+"/api/v1/fsck", `{}`, &checked)
	if checked.Report == nil || checked.Error != "" || checked.Report.Problems != 0 || checked.Report.Blobs == 0 {
		t.Errorf("fsck: %+v", checked)
	}
	var collected web.GCEvent
	lastLine(t, "http://"+to+"/api/v1/gc", `{"dry_run":true,"grace_seconds":0}`, &collected)
	if r := collected.Report; r == nil || collected.Error != "" || !r.DryRun || r.Manifests != 0 {
		t.Errorf("gc: %+v", collected)
	}
	pullFrom(t, dead.addr, "up/acme/app:1", nil)
}

// upload posts a body of some media type.
func upload(t *testing.T, url, kind, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, kind, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(said)
}

// lastLine is that of an answer that is a line for each event.
func lastLine(t *testing.T, url, body string, into any) {
	t.Helper()
	status, said := tell(t, url, body)
	lines := bytes.Split(bytes.TrimSpace([]byte(said)), []byte("\n"))
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", url, status, said)
	}
	if err := json.Unmarshal(lines[len(lines)-1], into); err != nil {
		t.Fatalf("%s: %v in %s", url, err, said)
	}
}
