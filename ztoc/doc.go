// Package ztoc makes, reads and checks zTOCs: tables of contents of compressed
// image layers, by which a SOCI client reads one file out of a layer without
// having the rest.
//
// A Builder takes a layer's compressed bytes once, in order, and gives the zTOC
// that `soci create` v0.15.0 gives for the same layer and span size, byte for
// byte, and refuses what it refuses. Parse reads the zTOC of any builder without
// trusting it, and Extract reads a file's bytes from the spans that hold them.
//
// The package knows nothing of registries, HTTP or stores.
package ztoc
