package indexer

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Store is what the indexer needs of the store.
type Store interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
	Update(ctx context.Context, fn func(storage.Tx) error) error
	// Open opens a blob that has a row. storage.ErrNotFound.
	Open(ctx context.Context, d digest.Digest) (storage.Blob, error)
	// Stat finds a blob that can be opened, with or without a row yet.
	// storage.ErrNotFound.
	Stat(ctx context.Context, d digest.Digest) (storage.BlobRow, error)
	// Create starts a blob; committing it as storage.Durable makes it so.
	Create(ctx context.Context) (*storage.Writer, error)
	// Put stores body durably, then its row together with what more puts, in
	// one transaction. A blob that is there already is success.
	Put(ctx context.Context, row storage.BlobRow, body []byte, more func(storage.Tx) error) error
	// Flush makes durable, and gives rows to, what was stored until now.
	Flush(ctx context.Context) error
	// SetAside withdraws a blob whose bytes are wrong: what was pushed here goes
	// into quarantine, which it reports, and the rest away. storage.ErrRight where
	// right ones have come meanwhile.
	SetAside(ctx context.Context, d digest.Digest) (quarantined bool, err error)
	// PurgeUnneeded removes a blob unless a hosted repository or a pin needs it,
	// or needed says so, in the transaction that deletes its row.
	PurgeUnneeded(ctx context.Context, d digest.Digest, needed func(storage.Tx) (bool, error)) (gone bool, err error)
}

// Fetcher brings what an index needs and nobody has pulled, in the way in which
// a client would have it.
type Fetcher interface {
	// ResolveTag asks where a tag of repo leads. storage.ErrNotFound.
	ResolveTag(ctx context.Context, repo oci.Repo, tag string) (digest.Digest, error)
	// FetchManifest has a manifest of repo stored. storage.ErrNotFound when the
	// upstream has it not.
	FetchManifest(ctx context.Context, repo oci.Repo, d digest.Digest) error
	// FetchBlob has a blob of repo whole in the store. storage.ErrNotFound, and
	// storage.ErrFull when there is no room for it.
	FetchBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor) error
	// OpenBlob reads one from its first byte, as it comes, kept on the way where
	// there is room for it. io.EOF only behind the last byte of a blob that matched
	// its digest. storage.ErrNotFound.
	OpenBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor) (io.ReadCloser, error)
}

// Lister lists what an upstream has, in pages.
type Lister interface {
	// Repositories gives some repositories of an upstream behind last, "" being
	// the first, and whether there are more. ErrNotListed.
	Repositories(ctx context.Context, upstream, last string) (names []string, more bool, err error)
	// TagList does so for the tags of repo. ErrNotListed.
	TagList(ctx context.Context, repo oci.Repo, last string) (tags []string, more bool, err error)
}

// ErrNotListed is why a Lister gives nothing: what there is is known here, as far
// as it is known at all.
var ErrNotListed = errors.New("the upstream has no such list for us")

// Publisher puts what was made here into upstreams. Errors that another attempt
// would not mend wrap ErrRefused.
type Publisher interface {
	// Takes reports whether anything can be pushed to repo at all: not where it is
	// a namespace of ours, or its upstream is never asked.
	Takes(repo oci.Repo) bool
	// Manifest tells where ref leads at the upstream. storage.ErrNotFound.
	Manifest(ctx context.Context, repo oci.Repo, ref oci.Reference) (digest.Digest, error)
	// Read reads a manifest. storage.ErrNotFound.
	Read(ctx context.Context, repo oci.Repo, d digest.Digest) ([]byte, error)
	// Referrers lists what refers to subject there, of one type.
	Referrers(ctx context.Context, repo oci.Repo, subject digest.Digest, artifactType string) ([]v1.Descriptor, error)
	// PushBlob sends a blob unless it is there. open gives its bytes from the first,
	// as often as it is called.
	PushBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor, open func() (io.ReadCloser, error)) error
	PushManifest(ctx context.Context, repo oci.Repo, ref oci.Reference, mediaType string, body []byte) error
	// PushReferrer sends a manifest that refers to subject and has it listed, in
	// place of what it replaces. fallback: under a tag, for want of an API.
	PushReferrer(ctx context.Context, repo oci.Repo, subject digest.Digest, d v1.Descriptor, body []byte, replaces []digest.Digest) (fallback bool, err error)
	// Unlist takes away again what PushReferrer brought.
	Unlist(ctx context.Context, repo oci.Repo, subject, d digest.Digest, fallback bool) error
}

// ErrRefused is wrapped where an upstream will not take something, ever.
var ErrRefused = errors.New("the upstream refuses it")

// Events is told what became of images.
type Events interface {
	// File adds e to tx: it is told of if and only if what tx writes is kept.
	File(tx storage.EventTx, e oci.Event) error
}

// builder turns a layer's bytes, written in order, into a zTOC. A *refusal is
// a verdict about the bytes, for good; any other error is of this attempt
// alone. One of finish and abort is called, abort also after finish.
type builder interface {
	io.Writer
	finish() (*built, error)
	abort()
}

// built is a finished zTOC and what was learnt on the way.
type built struct {
	digest    digest.Digest // of the zTOC
	size      int64
	layer     digest.Digest // of the bytes that were written
	layerSize int64
	diffID    digest.Digest // "" where it was not computed
	spans     int
	firstSpan int64  // where span 0 begins in the layer
	table     []byte // the span table as rows keep it
	rejected  string // why clients would refuse the zTOC; "" when they would not
	body      interface {
		io.WriterTo
		io.Closer
	}
}

// refusal says why a layer can't have a zTOC: at which stage, where, and how.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }
