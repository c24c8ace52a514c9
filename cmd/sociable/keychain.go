package main

import (
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sociable/sociable/internal/upstream"
)

// keychain is where an upstream's credentials come from, nil where that is no
// keychain.
func keychain(c *UpstreamConfig) authn.Keychain {
	switch c.Keychain {
	case "docker":
		return upstream.DockerKeychain(c.DockerConfig)
	default:
		return nil
	}
}
