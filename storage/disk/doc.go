// Package disk keeps blobs in a folder.
//
//	blobs/<algorithm>/<first two hex digits>/<hex>   verified, read-only
//	partial/<key>                                    still arriving, with holes
//	tmp/<random>                                     being written; void after a restart
//	quarantine/<algorithm>-<hex>                     found to be wrong, for a person to look at
//
// All are on one file system, so that a name is given by rename(2):
//
//	openat(tmp/R, O_CREAT|O_EXCL) write... fchmod close     BlobWriter, Commit
//	rename(tmp/R, blobs/A/AB/HEX)                           Commit
//	openat(HEX) fsync close  openat(AB) fsync close         Sync
//
// What a folder holds says nothing about which blobs the store has: that is for
// the rows to say, and they follow Sync. Hence a crash between any two of these
// calls leaves garbage at most.
//
// A Disk has no lock of its own. The process that holds the rows' lock owns the
// folder, so the rows are opened first.
//
// A blob's file stays open for a second after its last reader, for the next one
// (idle.go).
package disk
