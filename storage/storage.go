package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Sentinel errors. They come wrapped with what was being done and to which
// digest or key; test with errors.Is.
var (
	ErrNotFound = errors.New("not found")               // no such row, or no such bytes
	ErrDigest   = errors.New("digest does not match")   // bytes are not what their name says; nothing was kept
	ErrFull     = errors.New("storage is full")         // no room, and nothing left to evict
	ErrLocked   = errors.New("store is in use")         // another process owns it
	ErrBusy     = errors.New("in use")                  // another caller has it
	ErrTooMany  = errors.New("too many at once")        // a caller has as many as one may
	ErrCorrupt  = errors.New("damaged")                 // the rows as a whole: no transaction can be had, or not this one
	ErrSchema   = errors.New("unknown schema version")  // written by a newer program
	ErrPinned   = errors.New("pinned")                  // an operator keeps it
	ErrBlocked  = errors.New("blocked by the operator") // an operator keeps it out
)

// Blob is an open, verified, immutable blob. ReadAt may be called from many
// goroutines. Removing the blob from the store does not disturb it. The caller
// closes it.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
	// File is the local file that holds exactly the blob, for sendfile; nil
	// where the bytes are not in one. Its offset belongs to the caller.
	File() *os.File
}

// Blobs keeps bytes, by digest once they are verified and by key while they
// arrive. It decides nothing: what is present is what Meta has a row for.
// All methods are safe for concurrent use; no lock is held across I/O.
type Blobs interface {
	// Open opens the bytes under d. ErrNotFound.
	Open(ctx context.Context, d digest.Digest) (Blob, error)
	// Create starts a blob of which the digest may not be known yet.
	Create(ctx context.Context) (BlobWriter, error)
	// Sync makes committed blobs and their names durable. It returns nil, or a
	// *SyncError: the blobs that it does not name are durable all the same; or
	// ctx's cause where that ended before.
	Sync(ctx context.Context, ds ...digest.Digest) error
	// Remove deletes the bytes under d. Removing what is not there is success.
	Remove(ctx context.Context, d digest.Digest) error
	// Quarantine moves the bytes under d to where nothing serves them and a
	// person can look at them; those of an earlier time are replaced. ErrNotFound.
	Quarantine(ctx context.Context, d digest.Digest) error
	// Quarantined is how many bytes lie there, until a person removes them.
	Quarantined(ctx context.Context) (int64, error)
	// Walk calls fn for every committed blob, in no order. fn's error ends it.
	// size looks for the blob's size, which may cost more than its name:
	// ErrNotFound where it has gone meanwhile.
	Walk(ctx context.Context, fn func(d digest.Digest, size func() (int64, error)) error) error

	// OpenPartial opens, or makes, the file of a blob that is still arriving.
	// key is the blob's digest, or an upload's id. There is one open Partial a
	// key at most that is written to; the caller sees to that.
	OpenPartial(ctx context.Context, key string) (PartialFile, error)
	// Reclaim undoes PartialFile.Commit: what is under d becomes the partial
	// key, to be written again, unless there is one. ErrNotFound.
	Reclaim(ctx context.Context, d digest.Digest, key string) error
	// WalkPartials calls fn for every key with a partial file, with its size and
	// with how much of that takes room on the medium: all but its holes.
	WalkPartials(ctx context.Context, fn func(key string, size, held int64) error) error
	// Free is the number of bytes that the medium still has room for, and its
	// size; both -1 where it has no such limit.
	Free(ctx context.Context) (free, total int64, err error)
}

// SyncError names the blobs that Blobs.Sync could not make durable. Apart from
// ErrNotFound, for one that was removed meanwhile, such a blob is lost: after a
// failed sync neither its bytes nor a second attempt's success can be trusted.
type SyncError struct {
	Errs map[digest.Digest]error // never empty
}

func (e *SyncError) Error() string {
	for d, err := range e.Errs {
		if len(e.Errs) == 1 {
			return fmt.Sprintf("sync %s: %v", d, err)
		}
		return fmt.Sprintf("sync %s and %d more: %v", d, len(e.Errs)-1, err)
	}
	return "sync"
}

// Unwrap gives every cause, in no order.
func (e *SyncError) Unwrap() []error { return slices.Collect(maps.Values(e.Errs)) }

// BlobWriter takes a blob's bytes in order and hashes them on the way (sha256;
// for sha512 Commit reads them again). Not safe for concurrent use.
type BlobWriter interface {
	io.Writer
	// Commit checks the bytes against d and gives them their name: from then
	// on Open finds them. They are not durable until Blobs.Sync. ErrDigest
	// when they differ: the bytes are gone then. Bytes already there under d
	// stay, and that is success; two Commits of one digest at once are the
	// caller's to prevent. ErrFull may be for want of room for the name alone:
	// Commit may be called again then, which fails for good where it was not.
	Commit(ctx context.Context, d digest.Digest) error
	// Close drops what was not committed. It is called always, once.
	Close() error
}

// PartialFile is a file with holes. ReadAt and WriteAt may be called from many
// goroutines; reading a hole gives zero bytes or io.EOF, so the caller keeps
// account of what is there.
type PartialFile interface {
	io.ReaderAt
	io.WriterAt
	File() *os.File // nil where there is none
	// Truncate cuts the file to its first size bytes.
	Truncate(size int64) error
	// Sync makes all that was written durable, and the file's name.
	Sync() error
	// Commit gives the first size bytes the name d, without checking: the
	// caller has hashed every byte. It fails when there are fewer. Like
	// BlobWriter.Commit it leaves bytes already there, and is not durable
	// until Blobs.Sync. The file stays readable, and no longer writable,
	// until it is closed.
	Commit(ctx context.Context, d digest.Digest, size int64) error
	// Remove deletes the file; who has it open reads and writes on. After
	// Commit it does nothing.
	Remove() error
	Close() error
}

// Meta keeps the rows. Every transaction is atomic and isolated. fn must not do
// I/O, wait, or begin another transaction, and its Tx is void once it returned.
type Meta interface {
	// View runs fn over one consistent state.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn and makes what it wrote durable before it returns; when
	// fn fails nothing of it is kept, and its error is returned. Updates that
	// wait for each other share one write: fn may run more than once, and on
	// another goroutine, so it sets what it gives back rather than adds to it.
	// A ctx that ends before fn was begun gives its cause.
	Update(ctx context.Context, fn func(Tx) error) error
	// Close waits for transactions that are under way; later ones fail.
	Close() error
}

// Tx is one transaction over the rows. Getters return ErrNotFound for an absent
// row; deleting an absent row is success. Put replaces. Iterators go in the
// order that their comment gives, stop at fn's error and return it; fn must not
// write. Everything returned is the caller's own.
type Tx interface {
	RightTx
	BlobTx
	ManifestTx
	LayerTx
	JobTx
	TaskTx
	ConversionTx
	PublishedTx
	EventTx
	PinTx
	BlockTx
	MissingTx
	ImportedTx
	ContentTx
	UploadTx
	SeenTx
	LearnTx
	UnreadableTx
}
