package proxy

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// preconditions answers where If-Match or If-None-Match decide, in the order of
// RFC 9110 §13.2.2, and once this repository was found to have the blob: what would
// be refused without them is refused (§13.2.1).
func (p *Proxy) preconditions(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest, st stored) (done bool, err error) {
	tag := entityTag(r, st, d)
	if want := r.Header.Get("If-Match"); want != "" && !matchStrong(want, tag) {
		if !st.entitled {
			if err := p.prove(r.Context(), up, repo, d, st); err != nil {
				return true, blobError(d, err)
			}
		}
		w.Header()["Accept-Ranges"] = byteRanges
		w.Header().Set("Etag", tag)
		w.WriteHeader(http.StatusPreconditionFailed)
		return true, nil
	}
	if match(r.Header.Get("If-None-Match"), tag) {
		return true, p.notModified(w, r, up, repo, d, st)
	}
	return false, nil
}

// matchStrong applies If-Match (RFC 9110 §13.1.1) to an entity tag.
func matchStrong(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if t = strings.TrimSpace(t); t == "*" || t == tag {
			return true
		}
	}
	return false
}
