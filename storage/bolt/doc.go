// Package bolt keeps rows in one bbolt file, which one process at a time owns.
//
// The file, as a tree of buckets:
//
//	schema
//	  version                        -> uint32, big endian
//	  "learnt " UPSTREAM             -> as whom it is asked: what its rights were learnt by
//	blobs
//	  D                              -> row of a blob, see blobrow.go
//	partials
//	  D                              -> JSON of storage.PartialRow
//	rights
//	  D UPSTREAM 00 NAME             -> nothing
//	tags
//	  UPSTREAM 00 NAME 00 TAG        -> JSON of storage.TagRow
//	tags-by-digest
//	  D UPSTREAM 00 NAME 00 TAG      -> nothing
//	manifests
//	  D                              -> JSON of storage.ManifestRow
//	manifests-by-named
//	  D(named) D                     -> nothing
//	referrers
//	  D(subject) D                   -> JSON of storage.ReferrerRow, made here
//	  D(subject) D UPSTREAM 00 NAME  -> the same, pushed
//	upstream-referrers
//	  D(subject) UPSTREAM 00 NAME    -> JSON of storage.UpstreamReferrersRow
//	layers
//	  D S                            -> JSON of storage.LayerRow
//	spans
//	  D S                            -> span table, as it was put
//	images
//	  D                              -> JSON of storage.ImageRow
//	images-by-layer
//	  D(layer) D(manifest)           -> nothing
//	jobs
//	  D S                            -> JSON of storage.JobRow
//	jobs-by-order
//	  P T D S                        -> nothing
//	tasks
//	  KIND 00 UPSTREAM 00 NAME 00 R  -> JSON of storage.TaskRow
//	tasks-by-order
//	  P T KIND 00 ...                -> nothing
//	conversions
//	  D(source) UPSTREAM 00 NAME     -> JSON of storage.ConversionRow
//	converted-tags
//	  UPSTREAM 00 NAME 00 TAG        -> JSON of storage.ConvertedTagRow
//	retired
//	  D                              -> JSON of storage.RetiredRow
//	published
//	  D(subject) D UPSTREAM 00 NAME  -> JSON of storage.PublishedRow
//	events
//	  ENDPOINT 00 N                  -> an event's body
//	pins
//	  REFERENCE                      -> JSON of storage.PinRow
//	pins-by-digest
//	  D REFERENCE                    -> nothing
//	blocks
//	  D                              -> JSON of storage.BlockRow
//	missing
//	  UPSTREAM 00 NAME 00 REFERENCE  -> JSON of storage.MissingRow
//	imported
//	  D(layer)                       -> JSON of storage.ImportedRow
//	heat
//	  D S                            -> heat of a layer's spans, see heat.go
//	pulls
//	  D                              -> how often a manifest was sent, see seen.go
//	learn
//	  D                              -> JSON of storage.LearnRow
//	taken
//	  D                              -> JSON of storage.TakenRow
//	samples
//	  NAME                           -> what was measured, as it was put
//	content
//	  UPSTREAM 00 NAME 00 D          -> JSON of storage.ContentRow
//	content-by-digest
//	  D UPSTREAM 00 NAME             -> nothing; 01 for what was released or lost, which does not count
//	content-bytes
//	  UPSTREAM                       -> uint64, big endian: bytes of the digests that its repositories have and that count, each once
//	uploads
//	  ID                             -> JSON of storage.UploadRow
//
// D is a digest: a byte for the algorithm (1 sha256, 2 sha512), then the hash
// itself, so that its length is known from its first byte. S is a span size, 8
// bytes, big endian. T is a time: seconds since 1970, 8 bytes, big endian, sign
// flipped, then 4 bytes of nanoseconds. N is a number, 8 bytes, big endian.
// P is a priority, 4 bytes, so that the highest comes first; R a tag, a digest or
// a pattern of tags. 00 ends a name, which can't hold it.
// Keys therefore sort as they are listed, and no key runs into another.
//
// Updates that arrive while another one is being written share the next write
// and its fsync; see group.go.
package bolt
