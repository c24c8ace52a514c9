package web

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// TrustedKey is a key whose bundles are trusted.
type TrustedKey struct {
	Name string // as it is configured
	ID   digest.Digest
	Key  ed25519.PublicKey
}

// Trust is what is known of a signature's key.
type Trust struct {
	Name  string        `json:"name,omitempty"` // as it is configured; "": it is not
	Key   digest.Digest `json:"key"`
	Known bool          `json:"known"`
}

// trust says whether a signature is by a key that is trusted here.
func (s *Web) trust(w http.ResponseWriter, r *http.Request) error {
	var sig bundle.Signature
	if err := receive(w, r, &sig); err != nil {
		return err
	}
	keys := map[digest.Digest]ed25519.PublicKey{}
	out := Trust{Key: sig.Key}
	for _, k := range s.opt.Trusted {
		keys[k.ID] = k.Key
		if k.ID == sig.Key {
			out.Name = k.Name
		}
	}
	var err error
	if out.Known, err = sig.Trust(keys); err != nil {
		return &oci.Error{Code: errcode.ErrorCodeDenied, Status: http.StatusConflict, Message: fmt.Sprintf("%v: %s", err, out.Name), Err: err}
	}
	return sendJSON(w, out)
}

// asMade reads what kind of thing made of another a request brings, if it does.
func asMade(r *http.Request, row *storage.BlobRow) error {
	word, of := r.URL.Query().Get("kind"), r.URL.Query().Get("of")
	switch kind := storage.Kind(word); {
	case word == "" && of == "":
		return nil
	case kind == storage.KindHot || kind == storage.KindZTOC || kind == storage.KindIndex:
		row.Kind = kind
	default:
		return oci.NewError(errcode.ErrorCodeNameInvalid, "%q is no kind of blob that is taken here", word)
	}
	if of == "" && row.Digest == oci.EmptyDigest { // the config of every index
		return nil
	}
	d, err := oci.ParseDigest(of)
	row.Of = d
	return err
}

// readLazy compares the spans that came with the zTOCs that came, each byte of
// them, and says where they are.
func (s *Web) readLazy(ctx context.Context, q ImportRequest) ([]storage.ImportedRow, error) {
	rows := make([]storage.ImportedRow, 0, len(q.Lazy))
	for i := range q.Lazy {
		row, err := s.readSpans(ctx, &q.Lazy[i])
		if err != nil {
			return nil, err
		}
		row.Signed, row.Created = q.Signed, time.Now().UTC().Round(0)
		rows = append(rows, row)
	}
	return rows, nil
}

func (s *Web) readSpans(ctx context.Context, l *bundle.LazyLayer) (row storage.ImportedRow, err error) {
	table, err := s.tableOf(ctx, l.ZTOC)
	if err != nil {
		return row, fmt.Errorf("zTOC of %s: %w", l.Layer, err)
	}
	b, err := s.opt.Store.Open(ctx, l.Spans)
	if err != nil {
		return row, fmt.Errorf("spans of %s: %w", l.Layer, err)
	}
	defer b.Close()
	front, at, err := bundle.ReadSpansHead(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return row, fmt.Errorf("%s: %w", l.Spans, err)
	}
	if front.Layer != l.Layer || front.ZTOC != l.ZTOC || front.Size != l.Size || front.Count() != l.Have || table.Len() != l.Of {
		return row, fmt.Errorf("%w: %s has %d spans of layer %s by zTOC %s, the bundle states %d of %s by %s",
			bundle.ErrBundle, l.Spans, front.Count(), front.Layer, front.ZTOC, l.Have, l.Layer, l.ZTOC)
	}
	ranges, err := bundle.VerifySpans(b, b.Size(), at, front, table)
	if err != nil {
		return row, err
	}
	row = storage.ImportedRow{Layer: l.Layer, Size: l.Size, ZTOC: l.ZTOC, Blob: l.Spans, BlobSize: b.Size(), Head: front.Head}
	for _, r := range ranges {
		row.Runs = append(row.Runs, storage.ImportedRun{Range: r, At: at})
		at += r.Len()
	}
	return row, nil
}

// tableOf reads the span table of a zTOC that came. bundle.ErrBundle.
func (s *Web) tableOf(ctx context.Context, d digest.Digest) (table ztoc.SpanTable, err error) {
	b, err := s.opt.Store.Open(ctx, d)
	if err != nil {
		return table, err
	}
	defer b.Close()
	z, err := ztoc.Parse(b, b.Size())
	if err == nil {
		table, err = z.Table()
	}
	if errors.Is(err, ztoc.ErrInvalid) {
		err = fmt.Errorf("%w: %w", bundle.ErrBundle, err)
	}
	return table, err
}

// fileLazy has the spans be found, and repo have their layers. Of a layer that is
// whole here they are of no use; lazy counts the others.
func fileLazy(tx storage.Tx, repo oci.Repo, rows []storage.ImportedRow) (lazy int, err error) {
	for i := range rows {
		row := &rows[i]
		_, err := tx.Blob(row.Layer)
		if errors.Is(err, storage.ErrNotFound) {
			lazy++
			err = tx.PutImported(*row)
		}
		if err == nil {
			err = tx.PutRight(repo, row.Layer)
		}
		if err != nil {
			return lazy, err
		}
		zTOC, err := tx.Blob(row.ZTOC)
		if err == nil && zTOC.Of != row.Layer { // layers can share one, which is readable where its own is
			err = tx.PutRight(repo, row.ZTOC)
		}
		if err != nil {
			return lazy, err
		}
	}
	return lazy, nil
}

// dropLazy forgets spans of layers that have come as a whole, and gives these.
func dropLazy(tx storage.Tx, blobs []digest.Digest) (came []digest.Digest, err error) {
	for _, d := range blobs {
		_, err := tx.Imported(d)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err == nil {
			err = tx.DeleteImported(d)
		}
		if err != nil {
			return nil, err
		}
		came = append(came, d)
	}
	return came, nil
}

// fileIndexes lists the SOCI indexes that came, where none was made here.
func (s *Web) fileIndexes(ctx context.Context, repo oci.Repo, q ImportRequest) error {
	if len(q.Lazy) == 0 {
		return nil
	}
	err := s.opt.Store.Update(ctx, func(tx storage.Tx) error {
		for _, m := range q.Indexes {
			if err := fileIndex(tx, repo, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the SOCI indexes of %s: %w", q.Reference, err)
	}
	return nil
}

func fileIndex(tx storage.Tx, repo oci.Repo, m oci.PulledManifest) error {
	index, err := tx.Manifest(m.Digest)
	if err != nil {
		return err
	}
	img, err := tx.Image(m.Subject)
	noImage := errors.Is(err, storage.ErrNotFound)
	if err != nil && !noImage {
		return err
	}
	if noImage { // nothing is indexed here
		if img, err = imageOf(tx, repo, m.Subject); err != nil {
			return err
		}
	}
	mine, err := madeHere(tx, &img)
	if err != nil || mine || img.WithdrawnFrom(repo) {
		return err
	}
	now := time.Now().UTC().Round(0)
	if img.Index != "" && img.Index != m.Digest {
		err := errors.Join(tx.DeleteReferrer(m.Subject, img.Index), tx.PutRetired(storage.RetiredRow{Digest: img.Index, Since: now}))
		if err != nil {
			return err
		}
	}
	err = tx.PutReferrer(storage.ReferrerRow{Subject: m.Subject, Descriptor: v1.Descriptor{
		MediaType: index.Manifest.MediaType, Digest: m.Digest, Size: index.Size,
		ArtifactType: index.Manifest.ArtifactType, Annotations: index.Manifest.Annotations,
	}})
	if err != nil {
		return err
	}
	img.Index, img.IndexSize, img.Published = m.Digest, index.Size, now
	return errors.Join(tx.PutRight(repo, oci.EmptyDigest), tx.PutImage(img))
}

// imageOf is the row of an image that the indexer does not know.
func imageOf(tx storage.Tx, repo oci.Repo, d digest.Digest) (storage.ImageRow, error) {
	m, err := tx.Manifest(d)
	if err != nil {
		return storage.ImageRow{}, err
	}
	img := storage.ImageRow{Manifest: v1.Descriptor{MediaType: m.Manifest.MediaType, Digest: d, Size: m.Size}, Repos: []oci.Repo{repo}}
	for _, l := range m.Manifest.Layers {
		img.Layers = append(img.Layers, storage.ImageLayer{Descriptor: l, Skip: "indexing is off here"})
	}
	return img, nil
}

// madeHere reports whether an image's index is one that was made of its layers,
// and not what came in a bundle before.
func madeHere(tx storage.Tx, img *storage.ImageRow) (bool, error) {
	if img.Index == "" {
		return false, nil
	}
	for i := range img.Layers {
		if _, err := tx.Imported(img.Layers[i].Descriptor.Digest); err == nil {
			return false, nil
		} else if !errors.Is(err, storage.ErrNotFound) {
			return false, err
		}
	}
	return true, nil
}
