package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// TestPassthroughGrace: whom an upstream let in goes on pulling what is cached
// while it is away, also when what it gave for the login is over.
func TestPassthroughGrace(t *testing.T) {
	g := newPrivateRegistry(t)
	g.life = 1
	g.push(t, "priv/app:1")
	t.Setenv("SOCIABLE_UPSTREAMS_UP_ACCESS", "passthrough")
	t.Setenv("SOCIABLE_UPSTREAMS_UP_TAG_TTL", "1ms")
	s := startServer(t, "--upstream", "up="+g.URL)
	alice := &authn.Basic{Username: "alice", Password: "wonder"}
	if err := pullAll(t, s.addr, "up/priv/app:1", alice); err != nil {
		t.Fatal(err)
	}
	over := time.NewTimer(time.Duration(g.life) * time.Second) // of the tokens that were given until now
	g.setDown(true)
	<-over.C
	if err := pullAll(t, s.addr, "up/priv/app:1", alice); err != nil {
		t.Errorf("by tokens: %v", err)
	}
	basic := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("alice", password) }
	}
	for _, tt := range []struct {
		path, password string
		want           int
	}{
		{"/v2/up/priv/app/manifests/1", "wonder", 200},
		{"/v2/up/priv/app/manifests/1", "guess", 503},
		{"/v2/up/priv/other/manifests/1", "wonder", 503},
	} {
		if got, body := plainGet(t, http.MethodGet, "http://"+s.addr+tt.path, basic(tt.password)); got != tt.want {
			t.Errorf("%s with %s: %d %s, want %d", tt.path, tt.password, got, body, tt.want)
		}
	}
}
