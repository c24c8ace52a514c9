package web

import "github.com/opencontainers/go-digest"

// ExportRequest says which images are to be written into a bundle, and how.
type ExportRequest struct {
	Names     []string `json:"names"`               // in any spelling
	Platforms []string `json:"platforms,omitempty"` // os/architecture[/variant]; none: all. An image that is for none of them fails
	LazyOnly  bool     `json:"lazy_only,omitempty"` // leave out layers that have a zTOC, but for the spans that were read here
	NoPull    bool     `json:"no_pull,omitempty"`   // ask no upstream: an image that is not here in whole is a failure
}

// ImportOptions say how the images of a bundle are taken.
type ImportOptions struct {
	NoPin      bool // let the images be evicted like any other
	NoWait     bool // do not wait until they are indexed
	TrustSpans bool // take layers by their spans from whoever made the bundle, signed or not
}

// ImportReport is what came of a bundle.
type ImportReport struct {
	Images    []ImportedImage `json:"images"`
	Blobs     int             `json:"blobs"`     // in the bundle, all of them checked
	Bytes     int64           `json:"bytes"`     // of these
	HadBlobs  int             `json:"had_blobs"` // configs and layers that were here already
	HadBytes  int64           `json:"had_bytes"` // of these
	Signature BundleSigner    `json:"signature"` // who vouches for it
}

// ImportedImage is what became of one image of a bundle.
type ImportedImage struct {
	Reference string        `json:"reference"`        // canonical
	Digest    digest.Digest `json:"digest"`           // of its manifest or index
	Before    digest.Digest `json:"before,omitempty"` // where the tag led until now
	Pinned    bool          `json:"pinned"`
	Index     string        `json:"index,omitempty"` // how the SOCI index made here compares: same, different, none
	Lazy      int           `json:"lazy,omitempty"`  // layers that are here by some of their spans
	Error     string        `json:"error,omitempty"` // why it is not here
}

// BundleSigner is who vouches for a bundle.
type BundleSigner struct {
	Key     digest.Digest `json:"key,omitempty"`  // that signed it; absent: nobody did
	Name    string        `json:"name,omitempty"` // of the key, in import.trusted_keys
	Trusted bool          `json:"trusted"`        // it is in there
}
