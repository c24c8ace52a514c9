package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEventEndpoints(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := loadText(t, `
events:
  endpoints:
    - {name: ci, url: "https://example.com/x?key=secret-key", headers: ["X-A: secret-value", "x-a:2"], token_file: `+token+`, refused_for: 20m, ignore_actions: [pull], version: v2}
`)
	got, err := eventEndpoints(c)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	want := http.Header{"X-A": {"secret-value", "2"}, "Authorization": {"Bearer secret-token"}}
	if diff := cmp.Diff(want, got[0].Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got[0].MediaType != "application/vnd.docker.distribution.events.v2+json" || got[0].Timeout == 0 || got[0].RefusedFor != 20*time.Minute || len(got[0].IgnoreKinds) != 1 {
		t.Errorf("endpoint %+v", got[0])
	}
	shown, err := c.show(false)
	if err != nil || strings.Contains(string(shown), "secret-value") || strings.Contains(string(shown), "secret-token") {
		t.Errorf("config show: %v\n%s", err, shown)
	}
}

// TestEventMistakes: each has its line, and no value that may be a secret is quoted.
func TestEventMistakes(t *testing.T) {
	file := writeConfig(t, `events:
  max_queue: 0
  endpoints:
    - name: ci
      url: https://me:secret@example.com/
    - name: ci
      url: ftp://secret
      headers: ["no colon secret"]
      ignore_actions: [pulls]
      backoff: 2m
      threshold: 0
    - {name: "", url: "http://example.com", timeout: 0s, refused_for: 0s, token_file: /nonexistent}
    - {name: a, version: v3}
`)
	_, _, err := load(sources{File: file})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		":2: events.max_queue: want at least 1",
		":5: events.endpoints[0].url: must not hold a user or password",
		`:6: events.endpoints[1].name: "ci" is taken by events.endpoints[0].name`,
		":7: events.endpoints[1].url: is not an address",
		":8: events.endpoints[1].headers: ",
		`:9: events.endpoints[1].ignore_actions: there is no "pulls"`,
		":6: events.endpoints[1].max_backoff: want at least backoff, 2m", ":11: events.endpoints[1].threshold",
		`:12: events.endpoints[2].name: "" is not a name`, "refused_for: want more than 0", "timeout: want more than 0", "/nonexistent",
		`:13: events.endpoints[3].version: want "v1" or "v2"`, "events.endpoints[3].url: is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	for _, secret := range []string{"me:secret", "colon secret", "ftp://secret"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q is quoted in\n%v", secret, err)
		}
	}
}
