package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// encodable reports a blob that may be sent with a content coding: a zTOC, which
// is mostly plain text and shrinks to a third. Layers never are, nor is any
// answer to a Range: clients count the bytes of those.
func encodable(st stored) bool {
	return st.row != nil && st.row.Kind == storage.KindZTOC && st.row.Size <= maxEncoded
}

// encodes reports whether the answer to r is gzip-encoded.
func encodes(r *http.Request, st stored) bool {
	return encodable(st) && r.Method == http.MethodGet && r.Header.Get("Range") == "" && acceptsGzip(r.Header)
}

// entityTag is that of the form that r gets. An encoded one is another
// representation (RFC 9110 §8.8.3).
func entityTag(r *http.Request, st stored, d digest.Digest) string {
	if encodes(r, st) {
		return `"` + d.String() + `+gzip"`
	}
	return etag(d)
}

// serveEncoded sends a zTOC gzip-encoded: what comes out of decoding has the
// digest. One that can't be encoded now is left to be sent as it is.
func (p *Proxy) serveEncoded(w http.ResponseWriter, r *http.Request, repo oci.Repo, st stored) (done bool, err error) {
	f, err := p.encoded.open(r.Context(), st.row)
	if err != nil {
		if r.Context().Err() != nil {
			return true, blobError(st.row.Digest, err)
		}
		if times, tell := p.complaints.note("a zTOC is not encoded", p.now()); tell {
			p.log.WarnContext(r.Context(), "a zTOC is sent as it is, not gzip-encoded", "times", times, "digest", st.row.Digest, "err", err)
		}
		return false, nil
	}
	defer f.Close() // only read from
	blobHeaders(w, st.row.Digest)
	h := w.Header()
	h.Set("Etag", entityTag(r, st, st.row.Digest))
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", strconv.FormatInt(f.size, 10))
	p.outcome(w, r, outcomeHit)
	w.WriteHeader(http.StatusOK)
	p.body(w, r, func(out io.Writer) error { return p.send(out, f, oci.Range{Off: 0, End: f.size}) })
	p.pulled(r, repo, blobTarget(st.row.Digest, st.row.Size), "")
	return true, nil
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3): whether gzip may be
// sent. A client that says nothing gets the bytes as they are.
func acceptsGzip(h http.Header) bool {
	others, named, gzipped := false, false, false
	for _, line := range h["Accept-Encoding"] {
		for item := range strings.SplitSeq(line, ",") {
			coding, params, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip":
				named, gzipped = true, weight(params) > 0
			case "*":
				others = weight(params) > 0
			}
		}
	}
	return gzipped || others && !named
}

// weight is the value of a "q" parameter, 1 without one. One that cannot be read
// asks for nothing.
func weight(params string) float64 {
	name, value, ok := strings.Cut(params, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || q < 0 || q > 1 {
		return 0
	}
	return q
}
