package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// Converter knows at which tags SOCI v2 images that are made here are served.
type Converter interface {
	// ConvertedAt gives the tag whose converted form tag stands for.
	ConvertedAt(repo oci.Repo, tag string) (base string, ok bool)
	// ConvertedInPlace reports whether tag itself stands for its converted form.
	ConvertedInPlace(repo oci.Repo, tag string) bool
	// Withdrawn reports whether d, which tag base with a suffix leads to at the
	// upstream, was made here, and is to be offered in repo no more.
	Withdrawn(tx storage.Tx, repo oci.Repo, base string, d digest.Digest) (bool, error)
	// Moved says that a tag leads elsewhere than where it was converted.
	Moved(repo oci.Repo, tag string)
}

// maxAbsent bounds the tags that are remembered as not being at their upstream.
const maxAbsent = 4096

// manifestAtTag is manifestByTag, but for the tags at which a converted image
// is served.
func (p *Proxy) manifestAtTag(ctx context.Context, up *Upstream, repo oci.Repo, tag string, head bool) (found, error) {
	c := p.opt.Converter
	if c == nil {
		return p.manifestByTag(ctx, up, repo, tag, head)
	}
	if base, ok := c.ConvertedAt(repo, tag); ok {
		if known, err := p.convertedTag(ctx, repo, base); err != nil {
			return found{}, err
		} else if known != nil {
			return p.besideTag(ctx, up, repo, tag, base, *known, head)
		}
		got, err := p.manifestByTag(ctx, up, repo, tag, head)
		if err == nil {
			err = p.notWithdrawn(ctx, repo, base, got.desc.Digest)
		}
		return got, err
	}
	got, err := p.manifestByTag(ctx, up, repo, tag, head)
	if err != nil || !c.ConvertedInPlace(repo, tag) {
		return got, err
	}
	if row, err := p.conversion(ctx, repo, got.desc); err != nil {
		return found{}, err
	} else if row != nil {
		got.desc, got.out = *row, outcomeHit
		return got, nil
	}
	return got, nil
}

// notWithdrawn is storage.ErrNotFound of what was pushed to the upstream from
// here and is not to be offered.
func (p *Proxy) notWithdrawn(ctx context.Context, repo oci.Repo, base string, d digest.Digest) error {
	return p.store.View(ctx, func(tx storage.Tx) error {
		gone, err := p.opt.Converter.Withdrawn(tx, repo, base, d)
		if err == nil && gone {
			err = fmt.Errorf("converted form of %s, %s: %w", absentKey(repo, base), d, storage.ErrNotFound)
		}
		return err
	})
}

// besideTag answers for tag, which stands for the converted form of base. A tag
// of that name at the upstream goes before, unless it is what was made here of
// an earlier image, and pushed. While base leads to what is not converted yet,
// what was made of it last is served: as if it were made by hand after a push.
func (p *Proxy) besideTag(ctx context.Context, up *Upstream, repo oci.Repo, tag, base string, last v1.Descriptor, head bool) (found, error) {
	got, err := p.realTag(ctx, up, repo, tag, head)
	var stale error
	switch {
	case err == nil && !p.madeHere(ctx, got.desc):
		return got, nil
	case err == nil, upstream.IsNotFound(err), errors.Is(err, storage.ErrNotFound):
	case errors.Is(err, storage.ErrBlocked), upstream.IsDenied(err) && !up.Credentials, ctx.Err() != nil:
		return found{}, err
	default: // no answer: there was none by that name so far
		stale = err
	}
	beside := err == nil
	now, err := p.manifestByTag(ctx, up, repo, base, false)
	switch {
	case beside && upstream.IsNotFound(err):
		return p.besideNothing(ctx, up, repo, tag, base, got, head)
	case err != nil && (upstream.IsNotFound(err) || errors.Is(err, storage.ErrBlocked) || upstream.IsDenied(err) && !up.Credentials || ctx.Err() != nil):
		return found{}, err
	case err != nil:
		return found{desc: last, out: outcomeHit, stale: err}, nil //nolint:nilerr // it is why this one is stale
	case now.stale != nil:
		stale = now.stale
	}
	row, err := p.conversion(ctx, repo, now.desc)
	if err != nil {
		return found{}, err
	}
	if row == nil {
		p.opt.Converter.Moved(repo, base)
		row = &last
	}
	return found{desc: *row, out: outcomeHit, stale: stale}, nil
}

// besideNothing is got, which tag led to at the upstream and which was made here of
// base, now that base is there no more: as long as the upstream has tag all the
// same. It is asked for each request anew, since tag may have been deleted with base.
func (p *Proxy) besideNothing(ctx context.Context, up *Upstream, repo oci.Repo, tag, base string, got found, head bool) (found, error) {
	if !up.Hosted && up.Registry != nil && !up.Offline {
		ask, cancel := context.WithTimeoutCause(ctx, checkTime, errLate)
		defer cancel()
		var err error
		if got, err = p.askTag(ask, up, repo, tag, head); err != nil {
			return found{}, err
		}
	}
	return got, p.notWithdrawn(ctx, repo, base, got.desc.Digest)
}

// realTag asks for a tag of the upstream's own, and remembers for as long as a
// tag is good that there is none.
func (p *Proxy) realTag(ctx context.Context, up *Upstream, repo oci.Repo, tag string, head bool) (found, error) {
	if up.Hosted { // to look costs nothing
		_, desc, err := p.knownTag(ctx, repo, tag)
		return found{desc: desc, out: outcomeHit}, err
	}
	key := absentKey(repo, tag)
	if since, ok := p.absent.get(key); ok && (up.Offline || p.now().Sub(since) < up.TagTTL) {
		return found{}, fmt.Errorf("tag %s: %w", key, storage.ErrNotFound)
	}
	if up.Registry == nil || up.Offline {
		_, desc, err := p.knownTag(ctx, repo, tag)
		return found{desc: desc, out: outcomeHit}, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(up.TagTimeout, time.Second))
	defer cancel()
	got, err := p.manifestByTag(ctx, up, repo, tag, head)
	if err != nil && upstream.IsNotFound(err) {
		p.absent.put(key, p.now())
	}
	return got, err
}

func absentKey(repo oci.Repo, tag string) string { return repo.String() + ":" + tag }

// madeHere reports a converted image index that was made here.
func (p *Proxy) madeHere(ctx context.Context, d v1.Descriptor) bool {
	row, err := p.store.Stat(ctx, d.Digest)
	return err == nil && row.Kind == storage.KindIndex
}

// convertedTag gives what was last made of the image that base led to; nil where
// nothing was, or it is here no more.
func (p *Proxy) convertedTag(ctx context.Context, repo oci.Repo, base string) (*v1.Descriptor, error) {
	return p.made(ctx, func(tx storage.Tx) (v1.Descriptor, error) {
		row, err := tx.ConvertedTag(repo, base)
		return v1.Descriptor{Digest: row.Index}, err
	})
}

// conversion gives what was made of an image of repo; nil where nothing was.
func (p *Proxy) conversion(ctx context.Context, repo oci.Repo, source v1.Descriptor) (*v1.Descriptor, error) {
	return p.made(ctx, func(tx storage.Tx) (v1.Descriptor, error) {
		row, err := tx.Conversion(source.Digest, repo)
		return row.Index, err
	})
}

func (p *Proxy) made(ctx context.Context, look func(storage.Tx) (v1.Descriptor, error)) (*v1.Descriptor, error) {
	var out *v1.Descriptor
	err := p.store.View(ctx, func(tx storage.Tx) error {
		d, err := look(tx)
		if err == nil {
			d, _, err = p.storedManifest(tx, d.Digest)
		}
		if err == nil {
			out = &d
		}
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up a converted image: %w", err)
	}
	return out, nil
}
