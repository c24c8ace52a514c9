package storage

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// What follows says why something goes, "" where it stays.

// content judges what a hosted repository has.
func (g *collection) content(tx Tx, row ContentRow, rule *Retention) (why string, err error) {
	if row.Digest == oci.EmptyDigest && !row.Manifest { // named by every artifact, and two bytes
		needed, err := g.hasMore(tx, row)
		if needed || err != nil || g.now.Sub(row.Pushed) <= emptyGrace {
			return "", err
		}
	}
	if pinned, err := tx.Pinned(row.Digest); pinned || err != nil {
		return "", err
	}
	if named, err := g.namedIn(tx, row.Repo, row.Digest); named || err != nil {
		return "", err
	}
	tagged, orphan, err := g.taggedIn(tx, row.Repo, row.Digest)
	if tagged || err != nil {
		return "", err
	}
	last, err := g.lastUse(tx, row.Digest, row.Pushed)
	if err != nil {
		return "", err
	}
	unused := g.now.Sub(last)
	if !row.Manifest {
		if unused > g.grace {
			return "no manifest names it", nil
		}
		return "", nil
	}
	if orphan != "" {
		return "its tag is about " + orphan.String() + ", which was deleted", nil
	}
	why, lives, err := g.withSubject(tx, row)
	if why != "" || lives || err != nil {
		return why, err
	}
	if !row.Released.IsZero() && unused > g.grace {
		return "its image was deleted", nil
	}
	if rule.Untagged > 0 && unused > max(rule.Untagged, g.grace) {
		return fmt.Sprintf("without a tag, and not used for %s", unused.Round(time.Second)), nil
	}
	return "", nil
}

// emptyGrace is how long the empty config stays where nothing else is, even
// without any other grace: whoever pushes an artifact begins with it.
const emptyGrace = time.Hour

// hasMore reports whether a repository has anything but row.
func (g *collection) hasMore(tx Tx, row ContentRow) (bool, error) {
	return found(tx.Contents(row.Repo, func(other ContentRow) error {
		if other.Digest == row.Digest || g.deadContent[right{row.Repo, other.Digest}] {
			return nil
		}
		return errOne
	}))
}

// namedIn reports whether a manifest names d that repo has.
func (g *collection) namedIn(tx Tx, repo oci.Repo, d digest.Digest) (bool, error) {
	err := tx.NamedBy(d, func(by digest.Digest) error {
		has, err := g.has(tx, repo, by)
		if err == nil && has {
			err = errOne
		}
		return err
	})
	return found(err)
}

// found turns what an iterator gave that was ended with errOne into an answer.
func found(err error) (bool, error) {
	if errors.Is(err, errOne) {
		return true, nil
	}
	return false, err
}

func (g *collection) has(tx Tx, repo oci.Repo, d digest.Digest) (bool, error) {
	if g.deadContent[right{repo, d}] {
		return false, nil
	}
	_, err := tx.Content(repo, d)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// taggedIn reports whether a tag of repo means d. One that is about a manifest
// which was deleted does not count: that is orphan.
func (g *collection) taggedIn(tx Tx, repo oci.Repo, d digest.Digest) (tagged bool, orphan digest.Digest, err error) {
	tagged, err = found(tx.TagsOf(d, func(of oci.Repo, tag string) error {
		if of != repo || g.deadTags[TagRow{Repo: of, Tag: tag}] {
			return nil
		}
		if g.c.o.Immutable != nil && g.c.o.Immutable(repo, tag) {
			return errOne
		}
		subject := subjectOf(tag)
		if subject != "" {
			if was, err := g.wasDeleted(tx, repo, subject, tag); err != nil {
				return err
			} else if was {
				orphan = subject
				return nil
			}
		}
		return errOne
	}))
	return tagged, orphan, err
}

// withSubject judges a manifest by its subject, if it has one: it lives as long
// as that, and goes when it was deleted. A subject that never was says nothing.
func (g *collection) withSubject(tx Tx, row ContentRow) (why string, lives bool, err error) {
	m, err := tx.Manifest(row.Digest)
	if errors.Is(err, ErrNotFound) || err == nil && m.Manifest.Subject == nil {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	subject := m.Manifest.Subject.Digest
	if lives, err = g.has(tx, row.Repo, subject); lives || err != nil {
		return "", lives, err
	}
	ref, err := tx.Referrer(row.Repo, subject, row.Digest)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", false, err
	}
	if !ref.Orphaned.IsZero() || g.deadContent[right{row.Repo, subject}] {
		return "its subject " + subject.String() + " was deleted", false, nil
	}
	return "", false, nil
}

// lastUse is when d was last pushed, or asked for.
func (g *collection) lastUse(tx Tx, d digest.Digest, pushed time.Time) (time.Time, error) {
	row, err := tx.Blob(d)
	if errors.Is(err, ErrNotFound) {
		return g.s.accesses.last(d, pushed), nil
	}
	if err != nil {
		return pushed, err
	}
	last := g.s.accesses.last(d, row.Accessed)
	if pushed.After(last) {
		last = pushed
	}
	return last, nil
}

// fate is what becomes of a blob.
type fate int

const (
	stays fate = iota
	goes
	cached // no hosted repository has it any more, but it was pulled, too
)

// blob judges bytes, whatever repositories have them.
func (g *collection) blob(tx Tx, row BlobRow) (f fate, why string, err error) {
	if row.Digest == oci.EmptyDigest || g.deadBlobs[row.Digest] {
		return stays, "", nil
	}
	if pinned, err := tx.Pinned(row.Digest); pinned || err != nil {
		return stays, "", err
	}
	hosted, err := found(tx.ContentOf(row.Digest, func(repo oci.Repo) error {
		if g.deadContent[right{repo, row.Digest}] {
			return nil
		}
		return errOne
	}))
	if hosted || err != nil {
		return stays, "", err
	}
	unused := g.now.Sub(g.s.accesses.last(row.Digest, row.Accessed))
	switch row.Kind {
	case KindHosted:
		pulled, err := g.entitled(tx, row.Digest)
		if pulled {
			return cached, "", err
		}
		return goes, "no repository has it", err
	case KindManifest:
		return g.manifest(tx, row, unused)
	case KindIndex:
		return g.index(tx, row, unused)
	case KindZTOC:
		return g.zTOC(tx, row, unused)
	case KindHot:
		return g.hot(tx, row, unused)
	}
	return stays, "", nil // evicted when room is needed
}

// entitled reports whether any repository may read d.
func (g *collection) entitled(tx Tx, d digest.Digest) (bool, error) {
	return found(tx.RightRepos(d, func(repo oci.Repo) error {
		if g.deadContent[right{repo, d}] {
			return nil
		}
		return errOne
	}))
}

// manifest judges one that no hosted repository has: it was pulled, or deleted.
func (g *collection) manifest(tx Tx, row BlobRow, unused time.Duration) (fate, string, error) {
	pulled, err := g.entitled(tx, row.Digest)
	if err != nil {
		return stays, "", err
	}
	limit := g.c.o.Pulled
	if !pulled {
		limit = g.grace
	}
	if pulled && limit <= 0 || unused <= limit {
		return stays, "", nil
	}
	if row.Of != "" { // made of another one: it goes after that
		if _, err := tx.Manifest(row.Of); !errors.Is(err, ErrNotFound) {
			return stays, "", err
		}
	}
	young, err := found(tx.TagsOf(row.Digest, func(repo oci.Repo, tag string) error {
		if g.deadTags[TagRow{Repo: repo, Tag: tag}] {
			return nil
		}
		t, err := tx.Tag(repo, tag)
		if err == nil && g.now.Sub(t.Checked) <= limit {
			err = errOne
		}
		return err
	}))
	if young || err != nil {
		return stays, "", err
	}
	named, err := found(tx.NamedBy(row.Digest, func(by digest.Digest) error {
		parent, err := tx.Blob(by)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err == nil && !g.deadBlobs[by] && g.now.Sub(g.s.accesses.last(by, parent.Accessed)) <= limit {
			err = errOne
		}
		return err
	}))
	if named || err != nil {
		return stays, "", err
	}
	if !pulled {
		return goes, "no repository has it", nil
	}
	return goes, fmt.Sprintf("pulled, and not used for %s", unused.Round(time.Second)), nil
}

// index judges a SOCI index: that of a manifest which is here stays.
func (g *collection) index(tx Tx, row BlobRow, unused time.Duration) (fate, string, error) {
	if unused <= g.grace { // a client may have found it a moment ago
		return stays, "", nil
	}
	why := "its image is gone"
	if _, err := tx.Manifest(row.Of); err == nil && !g.deadBlobs[row.Of] {
		img, err := tx.Image(row.Of)
		if err == nil && img.Index != row.Digest && img.Index != "" && !img.offers(row.Digest) {
			if kept, err := g.converted(tx, row); kept || err != nil {
				return stays, "", err
			}
			return goes, "another one took its place", nil
		}
		return stays, "", ignoreAbsent(err)
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return stays, "", err
	}
	if used, err := g.converted(tx, row); used || err != nil { // by another image with the same layers
		return stays, "", err
	}
	return goes, why, nil
}

// converted reports a manifest that belongs to a SOCI v2 image: its index, or
// what that names.
func (g *collection) converted(tx Tx, row BlobRow) (bool, error) {
	named, err := found(tx.NamedBy(row.Digest, func(by digest.Digest) error {
		parent, err := tx.Blob(by)
		if err == nil && parent.Kind == KindIndex && !g.deadBlobs[by] {
			return errOne
		}
		return ignoreAbsent(err)
	}))
	if named || err != nil {
		return named, err
	}
	return found(tx.Conversions(row.Of, func(c ConversionRow) error {
		if c.Index.Digest == row.Digest {
			return errOne
		}
		return nil
	}))
}

// zTOC judges one by the layer it was made of. One that layers share, which is
// told from its rights, stays.
func (g *collection) zTOC(tx Tx, row BlobRow, unused time.Duration) (fate, string, error) {
	if unused <= g.grace {
		return stays, "", nil
	}
	needed, err := found(tx.Layers(row.Of, func(l LayerRow) error {
		if l.ZTOC == row.Digest {
			return errOne
		}
		return nil
	}))
	if err == nil && !needed {
		needed, err = importedZTOC(tx, row)
	}
	if err == nil && needed && g.dry {
		needed, err = g.hasImage(tx, row.Of)
	}
	if err == nil && !needed {
		needed, err = g.entitled(tx, row.Digest)
	}
	if needed || err != nil {
		return stays, "", err
	}
	return goes, "no image needs it", nil
}

// hasImage reports, in a dry run, whether an image has the layer that would not
// be gone by now, or none had it before.
func (g *collection) hasImage(tx Tx, layer digest.Digest) (bool, error) {
	had := false
	has, err := found(tx.ImagesOf(layer, func(img ImageRow) error {
		had = true
		if g.deadBlobs[img.Manifest.Digest] {
			return nil
		}
		return errOne
	}))
	return has || !had, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
