package oci

import (
	"context"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullOptions say what of an image is to be pulled, and how.
type PullOptions struct {
	// Platforms are those wanted of an index, with the attestations of their
	// images; none: everything that it names. An image that is no index is
	// pulled whatever it is for; of it Known finds the config here, which says so.
	Platforms []v1.Platform
	// Strict refuses an image that is no index and that says of itself that it is for
	// none of Platforms, before its layers come and before Known.
	Strict bool
	// Referrers pulls what the upstream lists as referring to the image and to
	// each of its manifests, or has at one of their AttachedTags: signatures, SBOMs. SOCI indexes are left out, since
	// they are made here.
	Referrers bool
	// Here takes what is here: nothing is asked for, and what is missing is
	// storage.ErrNotFound.
	Here bool
	// Fresh asks where a tag leads, however lately that was asked.
	Fresh bool
	// Known is called once all manifests are here, and before the first blob: its
	// error ends the pull; nil: not called.
	Known func(context.Context, PulledImage) error
	// Gate is waited for before each blob that has to be fetched; nil: no waiting.
	Gate func(context.Context) error
	// Progress hears how far it is, from one goroutine at a time; nil: nobody does.
	Progress func(PullProgress)
}

// PullProgress is how far the pull of an image is. The totals grow while
// manifests become known.
type PullProgress struct {
	Blobs   int   `json:"blobs"` // configs and layers that are whole here
	OfBlobs int   `json:"of_blobs"`
	Bytes   int64 `json:"bytes"` // that are here
	OfBytes int64 `json:"of_bytes"`
}

// PulledImage is an image that is whole here, as far as it was asked for.
type PulledImage struct {
	Root      v1.Descriptor    `json:"root"`                // what the name leads to
	Manifests []PulledManifest `json:"manifests"`           // Root first, then what is below it, then referrers
	Blobs     []v1.Descriptor  `json:"blobs"`               // configs and layers, each once
	LeftOut   []v1.Descriptor  `json:"left_out,omitempty"`  // manifests for other platforms, layers that may not be distributed
	Fetched   int64            `json:"fetched"`             // bytes of blobs that came from the upstream for it
	Unchecked string           `json:"unchecked,omitempty"` // why the tag is as it was last seen
}

// PulledManifest is one manifest of an image.
type PulledManifest struct {
	v1.Descriptor               // with platform and annotations, as the index above it says them
	Subject       digest.Digest `json:"subject,omitempty"` // of a referrer
	Tag           string        `json:"tag,omitempty"`     // one of AttachedTags, that leads to it
}

// IndexState is how far the index of one image manifest is.
type IndexState struct {
	Done    bool   `json:"done"`              // nothing is left to do: it is listed, or never will be
	Layers  int    `json:"layers"`            // that a rule wants indexed
	Through int    `json:"through"`           // of these, indexed or left out for good
	Trouble string `json:"trouble,omitempty"` // why a layer was not indexed, and is to be tried again
	Tries   int    `json:"tries,omitempty"`   // so far, of that layer
}

// Building is a layer that is being indexed.
type Building struct {
	Layer    digest.Digest `json:"layer"`
	SpanSize int64         `json:"span_size"`
	Bytes    int64         `json:"bytes"` // of it, compressed, that were read so far
}
