package storage

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// ContentRow says that a hosted repository has a digest: it was pushed there,
// or mounted from another repository.
type ContentRow struct {
	Repo     oci.Repo      `json:"repo"`
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`
	Manifest bool          `json:"manifest,omitempty"` // a manifest, else a blob
	Pushed   time.Time     `json:"pushed"`             // the last time
	// Released is when a client deleted what it was there for: it is not counted
	// and will be collected. Zero: it was not.
	Released time.Time `json:"released,omitzero"`
	// Lost says that its blob has lost its row, for bytes that were damaged or gone:
	// it is not counted before it is here again.
	Lost bool `json:"lost,omitempty"`
}

// UploadRow is a blob that a client is pushing: its first Size bytes are synced.
type UploadRow struct {
	ID        string           `json:"id"`
	Repo      oci.Repo         `json:"repo"`         // no other may go on with it
	By        string           `json:"by,omitempty"` // whose it is, for those who count them
	Algorithm digest.Algorithm `json:"algorithm"`
	Size      int64            `json:"size"`
	Started   time.Time        `json:"started"`
	Touched   time.Time        `json:"touched"`          // the last acknowledged request
	Digest    digest.Digest    `json:"digest,omitempty"` // what its bytes are about to be; "" while more may come
}

// ContentTx holds what hosted repositories have.
type ContentTx interface {
	// PutContent also gives the repository the right to the digest, and counts
	// the digest for its upstream as long as one of its repositories has it
	// in a row that Counts. What is a manifest there stays one, also when its bytes
	// come again as a blob.
	PutContent(ContentRow) error
	Content(repo oci.Repo, d digest.Digest) (ContentRow, error)
	// DeleteContent undoes PutContent.
	DeleteContent(repo oci.Repo, d digest.Digest) error
	// Contents calls fn for each row of repo, by digest.
	Contents(repo oci.Repo, fn func(ContentRow) error) error
	// ContentsAfter is Contents for those after last; "" for all.
	ContentsAfter(repo oci.Repo, last digest.Digest, fn func(ContentRow) error) error
	// AllContents calls fn for each row, by upstream, then name, then digest.
	AllContents(fn func(ContentRow) error) error
	// ContentOf calls fn for each hosted repository that has d, by upstream,
	// then name.
	ContentOf(d digest.Digest, fn func(oci.Repo) error) error
	// ContentRepos calls fn for each repository of upstream that has anything,
	// after the one named last, by name.
	ContentRepos(upstream, last string, fn func(oci.Repo) error) error
	// ContentBytes is the size of all that the repositories of upstream have and
	// that Counts, each digest once; 0 for one that has nothing.
	ContentBytes(upstream string) (int64, error)
}

// UploadTx holds what clients are pushing.
type UploadTx interface {
	PutUpload(UploadRow) error
	Upload(id string) (UploadRow, error)
	DeleteUpload(id string) error
	// Uploads calls fn for each row, by id.
	Uploads(fn func(UploadRow) error) error
}
