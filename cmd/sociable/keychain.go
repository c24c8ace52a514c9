package main

import (
	"fmt"

	ecr "github.com/awslabs/amazon-ecr-credential-helper/ecr-login"
	"github.com/chrismellard/docker-credential-acr-env/pkg/credhelper"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/google"

	"github.com/sociable/sociable/internal/upstream"
)

// keychain is where an upstream's credentials come from, nil where that is no
// keychain. Those of the clouds find out by themselves in whose name they are:
// from the environment, from files, or from the machine that this runs on.
func keychain(c *UpstreamConfig) authn.Keychain {
	switch c.Keychain {
	case "docker":
		return upstream.DockerKeychain(c.DockerConfig)
	case "ecr":
		return helper{ecr.NewECRHelper()}
	case "gcr":
		return google.Keychain
	case "acr":
		return helper{credhelper.NewACRCredentialsHelper()}
	default:
		return nil
	}
}

// helper is a keychain out of a Docker credential helper. Unlike the library's
// own, it tells what went wrong instead of asking without credentials.
type helper struct{ authn.Helper }

func (h helper) Resolve(r authn.Resource) (authn.Authenticator, error) {
	user, secret, err := h.Get(r.RegistryStr())
	switch {
	case err != nil:
		return nil, fmt.Errorf("get credentials for %s: %w", r.RegistryStr(), err)
	case user == "<token>": // Docker's credential helper protocol
		return authn.FromConfig(authn.AuthConfig{IdentityToken: secret}), nil
	default:
		return authn.FromConfig(authn.AuthConfig{Username: user, Password: secret}), nil
	}
}
