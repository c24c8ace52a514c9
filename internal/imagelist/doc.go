// Package imagelist finds the images that a text names: a list, a reference a
// line, or any stream of YAML or JSON documents, such as Kubernetes manifests
// and what helm template prints. It says what it saw and did not take.
//
// The text may come from anybody: what it costs is bounded by its length.
package imagelist
