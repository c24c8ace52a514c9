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
// An upstream may have mirrors, which stand in for it as long as they answer. One
// that does not answer, or asks for a pause, is left alone for a while, and what
// it is asked is bounded in requests, bytes and transfers.
//
// It leaves to others what is kept and who may read it: a Client remembers
// tokens, and how its endpoints do, and nothing else.
package upstream
