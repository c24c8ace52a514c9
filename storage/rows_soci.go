package storage

import (
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// ConversionRow is the SOCI v2 image that was made of an image of a repository.
type ConversionRow struct {
	Repo      oci.Repo      `json:"repo"`
	Source    v1.Descriptor `json:"source"`    // mediaType, digest, size of the image index or manifest
	Platforms []string      `json:"platforms"` // that have an index, in their order in the source
	Settings  string        `json:"settings"`  // of the rule that applied, as far as they shape the bytes
	Index     v1.Descriptor `json:"index"`     // of the converted image index
	Made      []MadeBlob    `json:"made"`      // manifests that were made for it, Index among them
	Created   time.Time     `json:"created"`
	// Prefetch are the prefetch artifacts of platforms that have any.
	Prefetch []ConvertedPrefetch `json:"prefetch,omitempty"`
}

// ConvertedPrefetch is what a SOCI v2 index names of its image's starts.
type ConvertedPrefetch struct {
	Manifest  digest.Digest   `json:"manifest"` // of the source's platform
	Artifacts []v1.Descriptor `json:"artifacts"`
}

// MadeBlob is a manifest made here, and what it was made of.
type MadeBlob struct {
	Digest digest.Digest `json:"digest"`
	Of     digest.Digest `json:"of"`
}

// ConvertedTagRow is where the converted form of a tag led when a conversion
// was last made for it. It is what is served while a tag that moved has none.
type ConvertedTagRow struct {
	Repo   oci.Repo      `json:"repo"`
	Tag    string        `json:"tag"`    // the upstream's own
	Source digest.Digest `json:"source"` // that the tag led to
	Index  digest.Digest `json:"index"`  // converted
	Set    time.Time     `json:"set"`
}

// RetiredRow is a manifest made here that is listed no more and can still be
// read, by those who found it while it was.
type RetiredRow struct {
	Digest digest.Digest `json:"digest"`
	Since  time.Time     `json:"since"`
}

// TaskKind is what is to be done.
type TaskKind string

// The kinds of tasks. A layer that waits to be indexed is a JobRow instead.
const (
	TaskImage   TaskKind = "image"   // fetch an image's manifests, and have its layers indexed
	TaskCatalog TaskKind = "catalog" // find the images that a pattern means at the upstream
	TaskConvert TaskKind = "convert" // make the SOCI v2 image of an image
	TaskPush    TaskKind = "push"    // push what was made of an image to its upstream
)

// TaskRow is work on an image that outlives a restart. There is one a Kind,
// Repo and Reference.
type TaskRow struct {
	Kind      TaskKind  `json:"kind"`
	Repo      oci.Repo  `json:"repo"`      // of a catalog task: its upstream, and the pattern as name
	Reference string    `json:"reference"` // tag, digest or, of a catalog task, pattern of tags
	Platforms []string  `json:"platforms,omitempty"`
	Priority  int       `json:"priority,omitempty"`
	Attempts  int       `json:"attempts"`
	NotBefore time.Time `json:"not_before"`
	Failed    bool      `json:"failed,omitempty"` // given up: only a person has it tried again
	LastError string    `json:"last_error,omitempty"`
	Created   time.Time `json:"created"`

	Cancelled bool          `json:"cancelled,omitempty"` // by a person: only a person has it begin again
	Digest    digest.Digest `json:"digest,omitempty"`    // of an image task: where the tag led, says who told of a push
	Told      bool          `json:"told,omitempty"`      // of an image task: somebody told of a push, which may not show yet
	After     string        `json:"after,omitempty"`     // of a catalog task: the repository that was gone through last
	AfterTag  string        `json:"after_tag,omitempty"` // and, of one that is being gone through, NAME:TAG
	Found     int           `json:"found,omitempty"`     // of a catalog task: images so far
}

// PublishedRow says that something that was made here of an image was brought to
// its upstream, or why not.
type PublishedRow struct {
	Repo    oci.Repo      `json:"repo"`
	Subject digest.Digest `json:"subject"` // what it was made of: an image manifest (v1), or where a tag leads (v2)
	Index   digest.Digest `json:"index"`   // a SOCI v1 index, or a converted image index
	V2      bool          `json:"v2,omitempty"`
	// Fallback says that the upstream has no referrers API, and lists a v1 index
	// under a tag of its subject's digest.
	Fallback bool `json:"fallback,omitempty"`
	// Made says that the upstream did not have it before.
	Made bool `json:"made,omitempty"`
	// Begun says of a v1 index that its push began and is not known to have ended:
	// it may be there.
	Begun bool `json:"begun,omitempty"`
	// Unlisted says of a v1 index that was replaced that the upstream lists it no more;
	// it may have it all the same.
	Unlisted bool `json:"unlisted,omitempty"`
	// Tags are the upstream's that were made to lead to a v2 image, Taken those
	// that were left because they led elsewhere. Those of Pushing may lead to it.
	Tags    []string `json:"tags,omitempty"`
	Taken   []string `json:"taken,omitempty"`
	Pushing []string `json:"pushing,omitempty"`
	// Instead is a SOCI v1 index that the upstream has of the image and that is not
	// from here: ours was not put beside it.
	Instead digest.Digest `json:"instead,omitempty"`
	// Alike says that Instead is made as those here are, by whomever.
	Alike bool `json:"alike,omitempty"`
	// Gone says that the subject was deleted there: what was brought for it goes, too.
	Gone bool      `json:"gone,omitempty"`
	At   time.Time `json:"at"`
}

// PublishedTx holds what is known of what was brought to upstreams.
type PublishedTx interface {
	PutPublished(PublishedRow) error
	Published(repo oci.Repo, subject, index digest.Digest) (PublishedRow, error)
	DeletePublished(repo oci.Repo, subject, index digest.Digest) error
	// PublishedOf calls fn for each row of subject, by index, then by repository.
	PublishedOf(subject digest.Digest, fn func(PublishedRow) error) error
	// AllPublished calls fn for each row, by subject, then as PublishedOf does.
	AllPublished(fn func(PublishedRow) error) error
}

// ConversionTx holds SOCI v2 images and what was listed and is no more.
type ConversionTx interface {
	PutConversion(ConversionRow) error
	// Conversion is that of source in repo.
	Conversion(source digest.Digest, repo oci.Repo) (ConversionRow, error)
	DeleteConversion(source digest.Digest, repo oci.Repo) error
	// Conversions calls fn for each row of source, by repository.
	Conversions(source digest.Digest, fn func(ConversionRow) error) error
	// AllConversions calls fn for each row, by source, then by repository.
	AllConversions(fn func(ConversionRow) error) error

	PutConvertedTag(ConvertedTagRow) error
	ConvertedTag(repo oci.Repo, tag string) (ConvertedTagRow, error)
	DeleteConvertedTag(repo oci.Repo, tag string) error
	// ConvertedTags calls fn for each row, by repository, then by tag.
	ConvertedTags(fn func(ConvertedTagRow) error) error

	PutRetired(RetiredRow) error
	DeleteRetired(d digest.Digest) error
	// Retired calls fn for each row, by digest.
	Retired(fn func(RetiredRow) error) error
}

// TaskTx is the durable queue of work on images.
type TaskTx interface {
	PutTask(TaskRow) error
	Task(kind TaskKind, repo oci.Repo, reference string) (TaskRow, error)
	DeleteTask(kind TaskKind, repo oci.Repo, reference string) error
	// Tasks calls fn for each task, those of the highest priority first, and of
	// these the oldest.
	Tasks(fn func(TaskRow) error) error
}
