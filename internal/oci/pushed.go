package oci

import "github.com/opencontainers/go-digest"

// Pushed is an image that was pushed to an upstream, as the upstream tells it.
type Pushed struct {
	Repo   Repo
	Tag    string        // "": by digest alone
	Digest digest.Digest // "": not told
}
