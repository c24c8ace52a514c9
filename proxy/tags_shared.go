package proxy

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// aboutDigest is a tag that begins with a digest, which may be cut short: a list
// of referrers (distribution specification, "Referrers Tag Schema"), or what
// cosign keeps about an image.
var aboutDigest = regexp.MustCompile(`^(sha256|sha512)-[0-9a-f]{64}`)

// shared reports a tag of which clients read what is there, add to it, and push
// that: who is given an old one takes away what others added. Where nothing is
// pushed through, nobody goes on to push it.
func (u *Upstream) shared(tag string) bool {
	return u.pusher() != nil && !u.Offline && aboutDigest.MatchString(tag)
}

// sharedTag finds what a tag means at the upstream, asked for each request anew:
// an answer that was under way before may be older than the caller's last push.
// Where there is no answer the tag as known is served, with a warning.
func (p *Proxy) sharedTag(ctx context.Context, up *Upstream, repo oci.Repo, tag string, head bool) (found, error) {
	row, known, err := p.knownTag(ctx, repo, tag)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return found{}, fmt.Errorf("look up tag %s of %s: %w", tag, repo, err)
	}
	here := err == nil
	ctx, cancel := context.WithTimeoutCause(ctx, checkTime, errLate)
	defer cancel()
	got, err := p.askTag(ctx, up, repo, tag, head)
	switch {
	case err == nil && here && got.desc.Digest == row.Digest:
		return found{desc: known, out: outcomeHit}, nil
	case err == nil, !here:
		return got, err
	case upstream.IsNotFound(err):
		return found{}, errors.Join(err, p.fileTag(row, func(tx storage.Tx) error { return tx.DeleteTag(repo, tag) }))
	case errors.Is(err, storage.ErrBlocked), upstream.IsDenied(err) && !up.Credentials:
		return found{}, err
	}
	return found{desc: known, out: outcomeHit, stale: err}, nil
}

// askTag asks the upstream, in a request of its own.
func (p *Proxy) askTag(ctx context.Context, up *Upstream, repo oci.Repo, tag string, head bool) (found, error) {
	ref := oci.Reference{Tag: tag}
	desc, err := up.Registry.HeadManifest(ctx, repo.Name, ref)
	if err != nil || head {
		return found{desc: desc, out: outcomeMiss}, err
	}
	if _, known, err := p.knownTag(ctx, repo, tag); err == nil && known.Digest == desc.Digest {
		return found{desc: known, out: outcomeHit}, nil
	}
	m, err := up.Registry.Manifest(ctx, repo.Name, ref)
	if err != nil {
		return found{}, err
	}
	row, err := manifestRow(repo, m)
	if err != nil {
		return found{}, err
	}
	return p.file(up, repo, ref, m, row), nil
}
