package storage

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Kind says what a stored blob is, which decides how it may be evicted.
type Kind string

// Evictable are KindBlob, KindSpan and KindHot. KindHosted is kept while a repository has
// it; the rest is small, and kept while what it describes is known.
const (
	KindBlob     Kind = "blob"     // config, layer, or anything else an image names
	KindSpan     Kind = "span"     // compressed bytes of one span of a layer
	KindManifest Kind = "manifest" // image manifest or index from upstream
	KindZTOC     Kind = "ztoc"     // made here, of a layer
	KindIndex    Kind = "index"    // SOCI index manifest, made here, of an image
	KindHosted   Kind = "hosted"   // a KindBlob that a hosted repository has: there is no other place to get it from
	KindHot      Kind = "hot"      // spans of a layer that came in a bundle: no repository has it
)

// BlobRow says that bytes are here, verified and synced.
type BlobRow struct {
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`
	Kind     Kind          `json:"kind"`
	Of       digest.Digest `json:"of,omitempty"` // what a zTOC, index, span or hot spans were made from
	Created  time.Time     `json:"created"`
	Accessed time.Time     `json:"accessed"`
}

// PartialRow says which bytes of an unfinished blob are synced. They are
// unverified. Have is sorted, disjoint and non-adjacent.
type PartialRow struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"` // -1 while unknown
	Have    []oci.Range   `json:"have"`
	Source  string        `json:"source,omitempty"` // who sent it: bytes of two sources are never mixed
	Touched time.Time     `json:"touched"`
}

// TagRow is a tag as its upstream last answered for it.
type TagRow struct {
	Repo    oci.Repo      `json:"repo"`
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest"`
	Checked time.Time     `json:"checked"` // when upstream last confirmed it
	// Orphaned is when the manifest that a hosted repository's tag is about was
	// deleted, where the tag's name has its digest; zero: it was not.
	Orphaned time.Time `json:"orphaned,omitzero"`
}

// ManifestRow is a manifest whose bytes are a blob of KindManifest or KindIndex.
type ManifestRow struct {
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`
	Manifest oci.Manifest  `json:"manifest"`
}

// ReferrerRow is a manifest that refers to a subject: made here, and listed
// wherever the subject is, or pushed to one repository, and listed there.
type ReferrerRow struct {
	Repo       oci.Repo      `json:"repo,omitzero"` // where it was pushed; zero: made here
	Subject    digest.Digest `json:"subject"`
	Descriptor v1.Descriptor `json:"descriptor"`        // with artifactType
	Orphaned   time.Time     `json:"orphaned,omitzero"` // when its subject was deleted from Repo; zero: it was not
}

// UpstreamReferrersRow is what an upstream last listed as referrers of a
// subject. An empty list is not kept.
type UpstreamReferrersRow struct {
	Repo      oci.Repo        `json:"repo"`
	Subject   digest.Digest   `json:"subject"`
	Referrers []v1.Descriptor `json:"referrers"` // by digest
	Checked   time.Time       `json:"checked"`
}

// EventRow is a notification that an endpoint has not taken yet.
type EventRow struct {
	Endpoint string
	Number   uint64 // given when it is added; rises
	Body     []byte // as the sender of notifications encodes it
}

// LayerState is how far indexing a layer has come.
type LayerState string

// A layer is wanted until it is indexed or skipped, for good.
const (
	LayerWanted  LayerState = "wanted"  // a rule wants it; not built yet
	LayerIndexed LayerState = "indexed" // its zTOC is stored, made here from verified bytes
	LayerSkipped LayerState = "skipped" // never to be built; Reason says why
)

// LayerRow is what is known of one layer at one span size.
type LayerRow struct {
	Digest    digest.Digest `json:"digest"`
	SpanSize  int64         `json:"span_size"` // bytes of uncompressed data asked for
	Size      int64         `json:"size"`      // compressed bytes
	State     LayerState    `json:"state"`
	Reason    string        `json:"reason,omitempty"`
	ZTOC      digest.Digest `json:"ztoc,omitempty"`
	ZTOCSize  int64         `json:"ztoc_size,omitempty"`
	Spans     int           `json:"spans,omitempty"`
	DiffID    digest.Digest `json:"diff_id,omitempty"` // "" where it was not computed: of a pushed gzip layer
	Head      []byte        `json:"head,omitempty"`    // the layer's first bytes: at least 512, and all before span 0
	Built     time.Time     `json:"built,omitzero"`
	BuildTime time.Duration `json:"build_time,omitempty"`
	Limits    *Limits       `json:"limits,omitempty"` // under which it was skipped, where one of them was the reason
}

// Limits bound what a layer may cost that is indexed.
type Limits struct {
	MaxUncompressed int64 `json:"max_uncompressed"` // bytes; 0: no bound
	MaxFiles        int   `json:"max_files"`
	MaxZTOC         int64 `json:"max_ztoc"` // bytes, for a layer that is smaller than four times as much
}

// ImageRow is the SOCI v1 index of one image manifest, or the way to it.
type ImageRow struct {
	Manifest  v1.Descriptor `json:"manifest"`            // mediaType, digest, size: the index's subject
	Repos     []oci.Repo    `json:"repos"`               // where it was seen, first first
	Layers    []ImageLayer  `json:"layers"`              // in the manifest's order
	Tags      []string      `json:"tags,omitempty"`      // that led to it, canonical as in docker.io/library/redis:7, first first
	Platform  string        `json:"platform,omitempty"`  // as linux/arm64, where it is known
	Fetched   bool          `json:"fetched,omitempty"`   // by this proxy for its own purposes: nobody has pulled it
	Withdrawn bool          `json:"withdrawn,omitempty"` // an operator wants no index of it, in no repository
	Index     digest.Digest `json:"index,omitempty"`
	IndexSize int64         `json:"index_size,omitempty"`
	Published time.Time     `json:"published,omitzero"`
	Asked     *Asked        `json:"asked,omitempty"` // by an operator, whatever the rules say
	// WithdrawnIn are repositories in which an operator wants no index of it.
	WithdrawnIn []oci.Repo `json:"withdrawn_in,omitempty"`
	// Learned is offered instead of Index, but to some, and never listed beside it.
	Learned *LearnedIndex `json:"learned,omitempty"`
}

// WithdrawnFrom reports whether no index of the image is to be offered in repo.
func (r *ImageRow) WithdrawnFrom(repo oci.Repo) bool {
	return r.Withdrawn || slices.Contains(r.WithdrawnIn, repo)
}

// WithdrawnEverywhere reports whether no index of it is to be offered at all.
func (r *ImageRow) WithdrawnEverywhere() bool {
	return r.Withdrawn || len(r.Repos) > 0 && !slices.ContainsFunc(r.Repos, func(repo oci.Repo) bool { return !r.WithdrawnFrom(repo) })
}

// Asked is that an operator wants an image indexed, and how. The sizes hold for
// the image's layers, in whichever repository it is.
type Asked struct {
	SpanSize     int64  `json:"span_size,omitempty"`      // uncompressed bytes; 0: as the rule has it
	MinLayerSize *int64 `json:"min_layer_size,omitempty"` // compressed bytes; a layer below it is skipped; nil: as the rule has it
	// Repos are those in which an index is wanted whatever the rule there says; none: all.
	Repos []oci.Repo `json:"repos,omitempty"`
}

// In reports whether an index is wanted in repo; a may be nil.
func (a *Asked) In(repo oci.Repo) bool {
	return a != nil && (len(a.Repos) == 0 || slices.Contains(a.Repos, repo))
}

// ImageLayer is one layer of an image as the rule that applied saw it.
type ImageLayer struct {
	Descriptor v1.Descriptor `json:"descriptor"`
	SpanSize   int64         `json:"span_size,omitempty"` // key of the LayerRow; 0 where a rule skips it
	Skip       string        `json:"skip,omitempty"`      // reason, where a rule skips it
}

// JobRow is a layer that waits to be indexed from the store.
type JobRow struct {
	Layer     oci.Layer `json:"layer"`
	SpanSize  int64     `json:"span_size"`
	Priority  int       `json:"priority,omitempty"`  // of the rule that wants it
	Fetch     bool      `json:"fetch,omitempty"`     // it is to be fetched when it is not in the store
	Again     bool      `json:"again,omitempty"`     // it is indexed in other spans, and was evicted: behind all else
	Failed    bool      `json:"failed,omitempty"`    // given up: only a person has it tried again
	Cancelled bool      `json:"cancelled,omitempty"` // by a person: only a person has it begin again
	Attempts  int       `json:"attempts"`
	NotBefore time.Time `json:"not_before"`
	LastError string    `json:"last_error,omitempty"`
	Created   time.Time `json:"created"`
}

// PinRow keeps an image: what it holds is not evicted.
type PinRow struct {
	Reference string        `json:"reference"` // canonical, as in docker.io/library/redis:7; no two pins have the same
	Root      digest.Digest `json:"root"`      // the manifest or index that it meant when it was pinned
	// Attached are manifests about the image, signatures for example, that are kept
	// with it.
	Attached []digest.Digest `json:"attached,omitempty"`
	Holds    []digest.Digest `json:"holds"` // Root, Attached and all that is below them, as far as the manifests are known
	Created  time.Time       `json:"created"`
}

// BlockRow keeps a digest out: it is not served under any name.
type BlockRow struct {
	Digest  digest.Digest `json:"digest"`
	Name    string        `json:"name,omitempty"`   // canonical, of the image that was blocked, where it was one
	Reason  string        `json:"reason,omitempty"` // the operator's words
	Created time.Time     `json:"created"`
}

// HeatRow says which spans of an indexed layer clients read by ranges, out of
// the whole layer or of what there is of it.
type HeatRow struct {
	Digest   digest.Digest `json:"digest"`
	SpanSize int64         `json:"span_size"`
	Spans    []SpanHeat    `json:"spans"` // by their number
}

// SpanHeat is how often a span was read, reads at about the same time being
// one, and when last, to the second; the zero value where it never was.
type SpanHeat struct {
	Reads uint32    `json:"reads"`
	Last  time.Time `json:"last,omitzero"`
}

// RightTx holds which repository has which blob or manifest: written only after
// the upstream answered for it in that repository.
type RightTx interface {
	PutRight(repo oci.Repo, d digest.Digest) error
	HasRight(repo oci.Repo, d digest.Digest) (bool, error)
	DeleteRight(repo oci.Repo, d digest.Digest) error
	// ForgetRights deletes those of all repositories of an upstream.
	ForgetRights(upstream string) error
	// PutLearnt notes as whom an upstream is asked from now on, as whoever asks it
	// writes that; Learnt is ErrNotFound where nothing was noted.
	PutLearnt(upstream, as string) error
	Learnt(upstream string) (as string, err error)
	// RightRepos calls fn for each repository that has d, by upstream, then name.
	RightRepos(d digest.Digest, fn func(oci.Repo) error) error
}

// BlobTx holds what is stored.
type BlobTx interface {
	PutBlob(BlobRow) error
	Blob(d digest.Digest) (BlobRow, error)
	DeleteBlob(d digest.Digest) error
	// Touch sets Accessed of blobs that have a row and ignores the others.
	Touch(at map[digest.Digest]time.Time) error
	// Blobs calls fn for each row, by digest.
	Blobs(fn func(BlobRow) error) error
	// BlobsAfter is Blobs for those after last.
	BlobsAfter(last digest.Digest, fn func(BlobRow) error) error

	PutPartial(PartialRow) error
	Partial(d digest.Digest) (PartialRow, error)
	DeletePartial(d digest.Digest) error
	Partials(fn func(PartialRow) error) error
}

// ManifestTx holds tags, manifests and what refers to them.
type ManifestTx interface {
	PutTag(TagRow) error
	Tag(repo oci.Repo, tag string) (TagRow, error)
	DeleteTag(repo oci.Repo, tag string) error
	// Tags calls fn for each tag of repo after last, by name.
	Tags(repo oci.Repo, last string, fn func(TagRow) error) error
	// TagRepos calls fn for each repository that has a tag, by upstream, then name.
	TagRepos(fn func(oci.Repo) error) error
	// TagsOf calls fn for each tag that leads to d, by upstream, name, tag.
	TagsOf(d digest.Digest, fn func(repo oci.Repo, tag string) error) error

	// PutManifest also files the manifest under each digest that it names, see
	// Named. It keeps it Lean.
	PutManifest(ManifestRow) error
	Manifest(d digest.Digest) (ManifestRow, error)
	// DeleteManifest deletes the manifest's pulls, and what was learnt of it, too.
	DeleteManifest(d digest.Digest) error
	// Manifests calls fn for each row, by digest.
	Manifests(fn func(ManifestRow) error) error
	// ManifestsAfter is Manifests for those after last.
	ManifestsAfter(last digest.Digest, fn func(ManifestRow) error) error
	// NamedBy calls fn for each manifest that names d, by digest. A subject is
	// not named.
	NamedBy(d digest.Digest, fn func(manifest digest.Digest) error) error

	PutReferrer(ReferrerRow) error
	Referrer(repo oci.Repo, subject, d digest.Digest) (ReferrerRow, error)
	// DeleteReferrer deletes d as a referrer of subject in every repository,
	// DeleteReferrerIn in one, where the zero one is that of what was made here.
	DeleteReferrer(subject, d digest.Digest) error
	DeleteReferrerIn(repo oci.Repo, subject, d digest.Digest) error
	// Referrers calls fn for each referrer of subject, by digest, then by
	// repository, what was made here first.
	Referrers(subject digest.Digest, fn func(ReferrerRow) error) error
	// ReferrersAfter is Referrers for those whose digest is after last.
	ReferrersAfter(subject, last digest.Digest, fn func(ReferrerRow) error) error
	// AllReferrers calls fn for each row, by subject, then as Referrers does.
	AllReferrers(fn func(ReferrerRow) error) error

	PutUpstreamReferrers(UpstreamReferrersRow) error
	UpstreamReferrers(repo oci.Repo, subject digest.Digest) (UpstreamReferrersRow, error)
	DeleteUpstreamReferrers(repo oci.Repo, subject digest.Digest) error
	// AllUpstreamReferrers calls fn for each row, by subject, then by repository.
	AllUpstreamReferrers(fn func(UpstreamReferrersRow) error) error
}

// EventTx holds the queues of notifications, one an endpoint.
type EventTx interface {
	// AddEvent appends to the endpoint's queue.
	AddEvent(endpoint string, body []byte) error
	// Events calls fn for each event of endpoint after number, oldest first.
	Events(endpoint string, after uint64, fn func(EventRow) error) error
	// DeleteEvents deletes the endpoint's events up to number.
	DeleteEvents(endpoint string, number uint64) error
	// EventEndpoints calls fn for each endpoint that has an event, by name.
	EventEndpoints(fn func(endpoint string) error) error
}

// LayerTx holds what indexing knows.
type LayerTx interface {
	PutLayer(LayerRow) error
	Layer(d digest.Digest, spanSize int64) (LayerRow, error)
	// Layers calls fn for each row of layer d, by span size.
	Layers(d digest.Digest, fn func(LayerRow) error) error
	// AllLayers calls fn for each row, by digest, then by span size.
	AllLayers(fn func(LayerRow) error) error
	// DeleteLayer deletes the layer's spans and heat, too.
	DeleteLayer(d digest.Digest, spanSize int64) error

	// PutSpans stores a span table as ztoc.SpanTable marshals it; only one
	// that was built here may ever be put.
	PutSpans(d digest.Digest, spanSize int64, table []byte) error
	Spans(d digest.Digest, spanSize int64) ([]byte, error)

	PutHeat(HeatRow) error
	Heat(d digest.Digest, spanSize int64) (HeatRow, error)

	// PutImage also files the image under each layer that has a SpanSize.
	PutImage(ImageRow) error
	Image(manifest digest.Digest) (ImageRow, error)
	DeleteImage(manifest digest.Digest) error
	// Images calls fn for each image, by manifest digest.
	Images(fn func(ImageRow) error) error
	// ImageDigests calls fn with the manifest digest of each image, in their order.
	ImageDigests(fn func(manifest digest.Digest) error) error
	// ImagesOf calls fn for each image that has the layer, by manifest digest.
	ImagesOf(layer digest.Digest, fn func(ImageRow) error) error
}

// JobTx is the durable queue of layers to index.
type JobTx interface {
	PutJob(JobRow) error
	Job(layer digest.Digest, spanSize int64) (JobRow, error)
	DeleteJob(layer digest.Digest, spanSize int64) error
	// Jobs calls fn for each job, those of the highest priority first, and of
	// these the oldest.
	Jobs(fn func(JobRow) error) error
}

// PinTx holds what is not to go.
type PinTx interface {
	// PutPin also files the pin under each digest that it holds.
	PutPin(PinRow) error
	Pin(reference string) (PinRow, error)
	DeletePin(reference string) error
	// Pins calls fn for each pin, by reference.
	Pins(fn func(PinRow) error) error
	// PinsOf calls fn for each pin that holds d, by reference. One that can't be read
	// has its Reference and d in Holds, and no Root.
	PinsOf(d digest.Digest, fn func(PinRow) error) error
	// Pinned reports whether a pin holds d.
	Pinned(d digest.Digest) (bool, error)
	// AllPinned calls fn with each digest that a pin holds, in their order.
	AllPinned(fn func(digest.Digest) error) error
}

// BlockTx holds what is not to be served.
type BlockTx interface {
	PutBlock(BlockRow) error
	Block(d digest.Digest) (BlockRow, error)
	DeleteBlock(d digest.Digest) error
	// Blocks calls fn for each block, by digest.
	Blocks(fn func(BlockRow) error) error
	// Blocked reports whether d is blocked. Every request asks.
	Blocked(d digest.Digest) (bool, error)
}
