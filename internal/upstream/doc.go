// Package upstream is the client side of one registry: manifests, blobs,
// referrers and tags, read by the OCI distribution specification, with the
// registry's own way of authentication.
//
// It promises that a blob's bytes are the ones that were asked for, however
// often the connection had to be made anew (see Body); that a manifest is what
// its digest says; that credentials reach the registry, its token service and
// nobody else; and that no answer of a registry makes it talk to this machine
// or its private network, unless the registry itself lives there.
//
// It leaves to others what is kept, who may read it, and how many bytes or
// requests an upstream is worth: a Client remembers tokens and nothing else.
package upstream
