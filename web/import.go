package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxImport bounds an ImportRequest: some hundred bytes a blob.
const maxImport = 64 << 20

// ImportRequest files an image whose manifests and blobs were put before.
type ImportRequest struct {
	Reference string               `json:"reference"` // canonical
	Root      digest.Digest        `json:"root"`
	Manifests []oci.PulledManifest `json:"manifests"`
	// Blobs came with the image: that its repository has them is known by that.
	Blobs []digest.Digest `json:"blobs"`
	// LeftOut did not: the repository has to have them already.
	LeftOut []digest.Digest `json:"left_out,omitempty"`
	// Lazy are layers of which some spans came. Whoever sends them has found out
	// that somebody trusted vouches for them: they give the right to the layer.
	Lazy []bundle.LazyLayer `json:"lazy,omitempty"`
	// Indexes are the SOCI indexes that came for images with such layers.
	Indexes []oci.PulledManifest `json:"indexes,omitempty"`
	Signed  string               `json:"signed,omitempty"` // by whom
	// Starts is what the bundle says of how images start.
	Starts []ImportedStarts `json:"starts,omitempty"`
	// Taken is what SOCI v2 indexes of Manifests named of starts where the bundle was made.
	Taken []bundle.Taken `json:"taken,omitempty"`
	Pin   bool           `json:"pin,omitempty"`
	// Early pins what is to come, before the first blob, and files nothing.
	Early bool `json:"early,omitempty"`
	// Check tells whether the image has a place here, and does nothing.
	Check bool `json:"check,omitempty"`
}

// Imported is an image that was filed.
type Imported struct {
	Reference string        `json:"reference"`        // as it is called here
	Before    digest.Digest `json:"before,omitempty"` // what the tag led to, where that was something else
	Pinned    bool          `json:"pinned,omitempty"`
	Lazy      int           `json:"lazy,omitempty"` // layers that are here by some of their spans alone
}

func (s *Web) importImage(w http.ResponseWriter, r *http.Request) error {
	var q ImportRequest
	if err := receiveUpTo(maxImport, w, r, &q); err != nil {
		return err
	}
	if s.opt.Images == nil {
		return errNoImages
	}
	out, err := s.fileImage(r.Context(), q)
	if err != nil {
		return operatorError(err)
	}
	if !q.Early && !q.Check {
		s.log.InfoContext(r.Context(), "image imported", "name", out.Reference, "digest", q.Root, "blobs", len(q.Blobs), "before", out.Before)
	}
	return sendJSON(w, out)
}

// fileImage makes the image findable: durable bytes first, then, in one
// transaction, rights, what refers to it, and the tag.
func (s *Web) fileImage(ctx context.Context, q ImportRequest) (Imported, error) {
	repo, ref, err := s.opt.Images.Literal(q.Reference)
	if err != nil {
		return Imported{}, err
	}
	out := Imported{Reference: canonical(repo, ref)}
	if q.Check {
		return out, nil
	}
	if q.Pin {
		if _, err := s.opt.Store.Pin(ctx, out.Reference, q.Root, attachedOf(q.Manifests)...); err != nil {
			return out, err
		}
		out.Pinned = true
	}
	if q.Early {
		return out, nil
	}
	if err := s.opt.Store.Flush(ctx); err != nil {
		return out, err
	}
	lazy, err := s.readLazy(ctx, q)
	if err != nil {
		return out, fmt.Errorf("import %s: %w", out.Reference, err)
	}
	var came []digest.Digest // layers of which there were some spans before
	rows := make([]storage.ManifestRow, 0, len(q.Manifests))
	err = s.opt.Store.Update(ctx, func(tx storage.Tx) error {
		rows = rows[:0]
		for _, m := range q.Manifests {
			row, err := tx.Manifest(m.Digest)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		out.Before = ""
		if out.Lazy, err = fileLazy(tx, repo, lazy); err != nil {
			return err
		}
		if came, err = dropLazy(tx, q.Blobs); err != nil {
			return err
		}
		return errors.Join(s.fileRows(tx, repo, ref, q, &out), fileTaken(tx, q))
	})
	if err == nil && s.hosts(repo) {
		err = s.host(ctx, repo, ref, q, rows)
	}
	if err != nil {
		return out, fmt.Errorf("import %s: %w", out.Reference, err)
	}
	starts, err := s.fileStarts(ctx, q) // before anything is made that names them
	if err != nil {
		return out, err
	}
	if err := s.indexImported(ctx, repo, rows, came); err != nil {
		return out, err
	}
	for _, d := range starts {
		if s.opt.Learnt != nil {
			s.opt.Learnt(ctx, d)
		}
	}
	return out, s.fileIndexes(ctx, repo, q)
}

// indexImported has manifests indexed, and layers that are whole by now.
func (s *Web) indexImported(ctx context.Context, repo oci.Repo, rows []storage.ManifestRow, whole []digest.Digest) error {
	if s.opt.Indexing == nil {
		return nil
	}
	for _, row := range rows {
		if err := s.opt.Indexing.Manifest(ctx, repo, row); err != nil {
			return err
		}
	}
	for _, d := range whole {
		s.opt.Indexing.Whole(d)
	}
	return nil
}

func (s *Web) fileRows(tx storage.Tx, repo oci.Repo, ref oci.Reference, q ImportRequest, out *Imported) error {
	for _, d := range q.LeftOut {
		ok, err := tx.HasRight(repo, d)
		if err == nil && ok {
			_, err = tx.Blob(d)
		}
		if errors.Is(err, storage.ErrNotFound) || err == nil && !ok {
			return fmt.Errorf("blob %s was left out of the bundle, and %s does not have it here: import the earlier bundle first: %w", d, repo, errIncomplete)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range q.Blobs {
		if _, err := tx.Blob(d); err != nil {
			return err
		}
		if err := tx.PutRight(repo, d); err != nil {
			return err
		}
	}
	listed := map[digest.Digest][]v1.Descriptor{}
	for _, m := range q.Manifests {
		if err := tx.PutRight(repo, m.Digest); err != nil {
			return err
		}
		if err := fileAttached(tx, repo, m, q.Manifests); err != nil {
			return err
		}
		if m.Subject != "" && !s.hosts(repo) { // there a referrer says itself what it is of
			listed[m.Subject] = append(listed[m.Subject], m.Descriptor)
		}
	}
	now := time.Now().UTC().Round(0)
	for subject, list := range listed {
		if err := tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: repo, Subject: subject, Referrers: list, Checked: now}); err != nil {
			return err
		}
	}
	here := oci.PulledImage{Root: v1.Descriptor{Digest: q.Root}, Manifests: q.Manifests}
	for _, d := range q.Blobs {
		here.Blobs = append(here.Blobs, v1.Descriptor{Digest: d})
	}
	if err := notMissing(tx, repo, ref, here); err != nil || ref.Tag == "" {
		return err
	}
	if old, err := tx.Tag(repo, ref.Tag); err == nil && old.Digest != q.Root {
		out.Before = old.Digest
	}
	if s.hosts(repo) { // with what else is pushed there
		return nil
	}
	return tx.PutTag(storage.TagRow{Repo: repo, Tag: ref.Tag, Digest: q.Root, Checked: now})
}

// attachedOf are the manifests that are about an image, and not part of it.
func attachedOf(ms []oci.PulledManifest) (ds []digest.Digest) {
	for _, m := range ms {
		if m.Subject != "" || m.Tag != "" {
			ds = append(ds, m.Digest)
		}
	}
	return ds
}

// fileAttached has the tag of what is attached by one lead to it. Any other tag is
// none of the bundle's business.
func fileAttached(tx storage.Tx, repo oci.Repo, m oci.PulledManifest, all []oci.PulledManifest) error {
	if m.Tag == "" {
		return nil
	}
	if !slices.ContainsFunc(all, func(to oci.PulledManifest) bool { return slices.Contains(oci.AttachedTags(to.Digest), m.Tag) }) {
		return oci.NewError(errcode.ErrorCodeTagInvalid, "the tag %q attaches nothing to this image", m.Tag)
	}
	return tx.PutTag(storage.TagRow{Repo: repo, Tag: m.Tag, Digest: m.Digest, Checked: time.Now().UTC().Round(0)})
}

// errIncomplete: an image was to be filed of which not everything is here.
var errIncomplete = errors.New("the image is not complete")
