package proxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// maxEncoded bounds the encoded zTOCs that are kept in memory, in bytes, and
	// maxEncodedOne one of them: all nodes of a cluster want the same at once.
	maxEncoded    = 16 << 20
	maxEncodedOne = 4 << 20
)

// encodable reports a blob that may be sent with a content coding: a zTOC, which
// is mostly plain text and shrinks to a third. Layers never are, nor is any
// answer to a Range: clients count the bytes of those.
func encodable(st stored) bool { return st.row != nil && st.row.Kind == storage.KindZTOC }

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
// digest.
func (p *Proxy) serveEncoded(w http.ResponseWriter, r *http.Request, a *ask, st stored) error {
	whole := oci.Range{Off: 0, End: a.src.size()}
	out, err := p.prepare(r.Context(), a, whole)
	if err != nil {
		return blobError(a.d, err)
	}
	blobHeaders(w, a.d)
	h := w.Header()
	h.Set("Etag", entityTag(r, st, a.d))
	h.Set("Content-Encoding", "gzip")
	p.outcome(w, r, out)
	body, kept := p.encoded.get(a.d)
	if kept {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(http.StatusOK)
	p.body(w, r, func(out io.Writer) error {
		if kept {
			if _, err := out.Write(body); err != nil {
				return clientError{err}
			}
			return nil
		}
		return p.encode(out, func(zw io.Writer) error { return a.src.copyRange(r.Context(), zw, whole) }, a.d)
	})
	p.pulled(r, a.repo, blobTarget(a.d, a.src.size()), "")
	return nil
}

// encode sends what send writes, encoded, to w, and keeps that for the next who
// asks if it is small. The fastest level takes 8 ms for a megabyte; the best
// makes it a sixth smaller, in five times as long.
func (p *Proxy) encode(w io.Writer, send func(io.Writer) error, d digest.Digest) error {
	keep := &keeper{}
	zw, err := gzip.NewWriterLevel(io.MultiWriter(w, keep), gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := errors.Join(send(zw), zw.Close()); err != nil {
		return err
	}
	if !keep.over {
		p.encoded.put(d, bytes.Clone(keep.buf.Bytes()))
	}
	return nil
}

// keeper keeps what is written, up to maxEncodedOne.
type keeper struct {
	buf  bytes.Buffer
	over bool
}

func (k *keeper) Write(p []byte) (int, error) {
	if k.over || k.buf.Len()+len(p) > maxEncodedOne {
		k.over, k.buf = true, bytes.Buffer{}
		return len(p), nil
	}
	return k.buf.Write(p)
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
