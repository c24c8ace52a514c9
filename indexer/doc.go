// Package indexer makes SOCI indexes of the images that pass through the proxy.
//
// It is told of four things: an image manifest was stored (Manifest), a fetch
// of a whole blob begins (Tap), a blob became whole in the store (Whole), and one
// went by for which that has no room (Passed).
// A rule decides which layers are wanted. A wanted layer is indexed from the
// stream that passes, in a goroutine of its own that reads behind the writer,
// or else from the store, by a durable queue. Its zTOC is stored, and as soon
// as no layer of an image is wanted any more, the image's SOCI index manifest
// is stored and listed as a referrer of the image.
//
// What it promises:
//
//   - The bytes are those that `soci create` v0.15.0 writes for the same layers
//     and span size. Where that tool refuses a whole image over one layer, the
//     layer is left out with its reason and the rest is indexed; a zTOC that
//     clients are known to reject is left out too.
//   - Only bytes that matched the layer's digest count. A build from a stream
//     is a guess until the stream's end says that the digest was verified.
//   - An index is listed only when all its zTOCs are stored, durably. There is
//     at most one SOCI v1 index per image manifest; another one replaces it in
//     one transaction.
//   - A crash anywhere leaves garbage at most: Run finds what was wanted in the
//     rows and goes on, and a repeat gives the same digests.
//   - Nothing that happens here slows or fails a pull.
//
// Every choice is made from rows inside a transaction, never from what this
// process remembers; memory only avoids doing the same work twice at once.
//
// How clients find and fetch the index is the business of packages proxy and
// referrers; what a zTOC is, that of package ztoc.
package indexer
