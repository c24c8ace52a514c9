package proxy

import (
	"errors"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// fallbackTag answers for the tag that stands for a subject's referrers, where
// a hosted repository has none of that name: clients that do not know the API
// ask for it. It reports whether it did.
func (p *Proxy) fallbackTag(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, tag string) (bool, error) {
	subject, ok := taggedSubject(tag)
	if !up.Hosted || !ok || p.opt.Referrers == nil {
		return false, nil
	}
	err := p.opt.Referrers.ServeTag(w, r, repo, subject)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return true, err
}

// taggedSubject is the digest whose referrers a tag stands for (distribution
// specification, "Referrers Tag Schema"). Of a digest that is cut short there,
// as sha512 is, it can't be told.
func taggedSubject(tag string) (digest.Digest, bool) {
	d, err := oci.ParseDigest(strings.Replace(tag, "-", ":", 1))
	return d, err == nil && upstream.ReferrersTag(d) == tag
}
