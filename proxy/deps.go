package proxy

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// Registry is what the proxy asks of one upstream; *upstream.Client is one.
// Errors are told apart by upstream.IsNotFound, IsDenied and IsUnavailable.
type Registry interface {
	Manifest(ctx context.Context, repo string, ref oci.Reference) (*upstream.Manifest, error)
	HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error)
	HeadBlob(ctx context.Context, repo string, d digest.Digest) (int64, error)
	Blob(ctx context.Context, repo string, d digest.Digest, r oci.Range) (*upstream.Body, error)
	Tags(ctx context.Context, repo string, n int, last string) (tags []string, more bool, err error)
}

// Indexer is told what passes. None of its methods waits for an index, but for
// Listed.
type Indexer interface {
	// Manifest is called after a manifest was stored, and may be again.
	Manifest(ctx context.Context, repo oci.Repo, row storage.ManifestRow) error
	// Tap is called when the blob d of size bytes (-1: unknown) begins to
	// arrive whole. open gives the bytes as they come; its io.EOF means that
	// they matched d.
	Tap(d digest.Digest, size int64, open func() (io.ReadCloser, error))
	// PushSize is the size from which on a blob that is pushed to repo may be a
	// layer to be indexed; -1: none may.
	PushSize(repo oci.Repo) int64
	// Push is called when a blob that is being pushed to repo is so large. rc gives
	// the bytes as they come, from the first; its io.EOF means that they matched
	// the digest that is was called with before.
	Push(repo oci.Repo, rc io.ReadCloser) (is func(digest.Digest))
	// Listed is called after Manifest, before whoever pushed the manifest d to
	// repo is answered. It may wait for the end of what is being made from the streams of
	// uploads, for a bounded time.
	Listed(ctx context.Context, repo oci.Repo, d digest.Digest)
	// Whole is called when d is complete in the store.
	Whole(d digest.Digest)
	// Passed is called when all of d came from repo's upstream, in one piece and
	// matched, or in parts, and is not kept: the proxy itself could fetch it again.
	Passed(repo oci.Repo, d digest.Digest)
	// Deleted is called when the manifest d was deleted at repo's upstream, before
	// whoever had it deleted is answered. It waits for a row to be written at most.
	Deleted(ctx context.Context, repo oci.Repo, d digest.Digest)
}

// Referrers answers the referrers request of a caller who may read subject.
type Referrers interface {
	Serve(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error
	// ServeTheirs is Serve of a subject that an upstream's repo does not have, or no
	// longer: nothing is listed that was made here of it for others.
	ServeTheirs(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error
	// ServeTag gives the list under the fallback tag of a hosted repository.
	// storage.ErrNotFound, and nothing written, when it is empty.
	ServeTag(w http.ResponseWriter, r *http.Request, repo oci.Repo, subject digest.Digest) error
	// Changed is told that a push which went through may have changed the list
	// of subject at the upstream.
	Changed(ctx context.Context, repo oci.Repo, subject digest.Digest) error
}

// Starts is told what clients ask for that load images lazily. None of its
// methods waits.
type Starts interface {
	// Manifest is called when the client of r was sent the manifest d of repo,
	// which was made here.
	Manifest(r *http.Request, repo oci.Repo, d digest.Digest)
	// Read is called when the client of r is about to be sent ranges of the blob d.
	Read(r *http.Request, d digest.Digest, ranges ...oci.Range)
}

// Events is told what callers did. None of its methods waits for a receiver.
type Events interface {
	// Wants reports whether anybody wants to be told of such an event.
	Wants(k oci.EventKind) bool
	// Note is for pulls, which cost no write of their own.
	Note(e oci.Event)
	// File adds e to tx: it is told of if and only if what tx writes is kept.
	File(tx storage.EventTx, e oci.Event) error
}

// Access decides who may do what. It is asked for every request, after the
// repository is known and before anything is looked up: what a repository has is
// another question, see rights.
type Access interface {
	// May returns nil when the caller of r may do action in repo, and otherwise
	// an *oci.Error: UNAUTHORIZED with a challenge when it could say who it is,
	// DENIED when that would not help.
	May(r *http.Request, repo oci.Repo, action oci.Action) error
}

// Door is an Access that knows callers by name.
type Door interface {
	Access
	// Enter is asked for GET /v2/, where clients find out whether and how to log
	// in; its error is like May's.
	Enter(r *http.Request) error
	// Sees reports whether the caller of r may pull from repo, as May does, where
	// many are asked about or r is about another one: a refusal is not logged.
	Sees(r *http.Request, repo oci.Repo) bool
	// Who is the caller's name for the access line, "" for nobody.
	Who(r *http.Request) string
}

// Lister is a Door that knows who may list repositories.
type Lister interface {
	// Lists reports whether the caller of r, which asks for a list of repositories,
	// finds repo there.
	Lists(r *http.Request, repo oci.Repo) bool
	// MayList is asked where Lists found nothing; its error, which is like May's,
	// says how to find more.
	MayList(r *http.Request) error
}

// Upstream is one configured registry and the ways to spell it. A hosted
// namespace is one, too: its images are pushed here and nowhere else.
type Upstream struct {
	Name     string
	Hosted   bool     // this proxy is the origin: Registry is nil, pushes are taken
	Offline  bool     // Registry is not to be asked: what is here is all there is
	Aliases  []string // first path segments and ns= values that mean it too
	Hosts    []string // virtual hosts bound to it
	Library  bool     // one-segment names live under library/, as on Docker Hub
	Registry Registry
	Identity Identity // where and as whom Registry asks; zero: what was learnt counts however it asks
	// AsCaller gives Registry as it is asked in the name of r's caller, for what
	// its request needs, also after that ended; nil: it is asked in our own.
	AsCaller func(r *http.Request, repo oci.Repo) Registry
	// Credentials says that Registry asks with credentials of our own: that they
	// are refused is trouble with them, not an answer about what was asked for.
	Credentials bool
	// PushThrough has pushes to it go on to Registry, which is a Pusher then.
	PushThrough bool
	// Hosting is how a hosted namespace is run.
	Hosting Hosting
	// TagTTL is how long a tag is served without asking again; TagTimeout how
	// long a caller waits for that question, and for the manifest of a tag that
	// moved, before the tag as known is served.
	TagTTL, TagTimeout time.Duration
}
