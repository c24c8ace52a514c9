package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAnothersRefusal: bob, who asks for what alice is just being refused, is asked
// for in his own name.
func TestAnothersRefusal(t *testing.T) {
	const body = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	d := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(body)))
	blob := strings.Repeat("x", 1000)
	layer := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(blob)))
	begun, let := make(chan struct{}, 9), make(chan struct{})
	bobs := make(chan struct{}, 99)
	g := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		what, kind, digest := body, "application/vnd.oci.image.index.v1+json", d
		if strings.Contains(r.URL.Path, "/blobs/") {
			what, kind, digest = blob, "application/octet-stream", layer
		}
		switch {
		case r.Method == http.MethodGet && user == "alice" && r.URL.Path != "/v2/":
			begun <- struct{}{}
			<-let
			fallthrough
		case !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="up"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		case user == "bob" && r.URL.Path != "/v2/":
			bobs <- struct{}{}
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Content-Length", fmt.Sprint(len(what)))
		if r.Method == http.MethodGet {
			_, _ = fmt.Fprint(w, what)
		}
	}))
	t.Cleanup(g.Close)
	t.Setenv("SOCIABLE_UPSTREAMS_UP_ACCESS", "passthrough")
	s := startServer(t, "--upstream", "up="+g.URL)
	for _, path := range []string{"manifests/1", "blobs/" + layer} {
		get := func(user string) int {
			code, _ := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/up/app/"+path, func(r *http.Request) { r.SetBasicAuth(user, "x") })
			return code
		}
		got := map[string]chan int{"alice": make(chan int, 1), "bob": make(chan int, 1)}
		go func() { got["alice"] <- get("alice") }()
		<-begun
		go func() { got["bob"] <- get("bob") }()
		<-bobs // he may read; then he waits with alice, or comes later, which has to be right as well
		let <- struct{}{}
		if code := <-got["bob"]; code != http.StatusOK {
			t.Errorf("%s: bob, whom the upstream lets read: %d", path, code)
		}
		if code := <-got["alice"]; code != http.StatusUnauthorized {
			t.Errorf("%s: alice, whom it refuses: %d", path, code)
		}
	}
}
