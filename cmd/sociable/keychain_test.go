package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// fakeHelper is a Docker credential helper that knows two hosts.
type fakeHelper struct{}

func (fakeHelper) Get(host string) (string, string, error) {
	switch host {
	case "a.example":
		return "AWS", "secret", nil
	case "b.example":
		return "<token>", "identity", nil
	default:
		return "", "", errors.New("nobody is logged in")
	}
}

func TestHelper(t *testing.T) {
	for host, want := range map[string]authn.AuthConfig{
		"a.example": {Username: "AWS", Password: "secret"}, "b.example": {IdentityToken: "identity"}, "c.example": {},
	} {
		reg, err := name.NewRegistry(host)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := helper{fakeHelper{}}.Resolve(reg)
		if host == "c.example" {
			if err == nil || !strings.Contains(err.Error(), "c.example: nobody is logged in") {
				t.Errorf("%s: got %v, %v", host, auth, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := auth.Authorization(); err != nil || *got != want {
			t.Errorf("%s: got %+v, %v", host, got, err)
		}
	}
}

// TestCloudKeychains holds that each cloud's keychain is there, by a host that is
// none of its: which it says, without asking anybody.
func TestCloudKeychains(t *testing.T) {
	reg, err := name.NewRegistry("registry.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"ecr", "gcr"} {
		chain := keychain(&UpstreamConfig{Keychain: k})
		if chain == nil {
			t.Fatalf("%s: none", k)
		}
		if auth, err := authn.Resolve(t.Context(), chain, reg); err == nil && auth != authn.Anonymous {
			t.Errorf("%s: has credentials for a stranger", k)
		}
	}
	if keychain(&UpstreamConfig{Keychain: "acr"}) == nil || keychain(&UpstreamConfig{Keychain: "docker"}) == nil || keychain(&UpstreamConfig{}) != nil {
		t.Error("a keychain too few or too many")
	}
}
