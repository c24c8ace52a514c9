// Package proxy is the /v2 surface: it decides which upstream and repository a
// request means, whether the caller may have what it asks for, and where the
// bytes come from.
//
// A blob that is whole here is sent from its file. One that is not is a fill:
// one file with holes, bytes that arrive from upstream on one side, any number
// of readers on the other. A whole GET starts the fill's pump, which goes
// through the blob once from the first byte to the last, hashing; a ranged GET
// wants only the cells that cover it. A ranged GET of a layer that was indexed
// here, and is no longer whole, is answered from spans, each of them a verified
// blob of its own.
//
// Nothing is sent as complete that was not verified, no lock is held across
// I/O, and a client that leaves takes nothing from the others.
package proxy
