package proxy

import (
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// serveRanges answers a Range request (RFC 9110 §14, §15.3.7): one range as it
// is, several as multipart/byteranges, none that exists as 416.
func (p *Proxy) serveRanges(w http.ResponseWriter, r *http.Request, a *ask, specs []oci.RangeSpec) error {
	size := a.src.size()
	if size < 0 { // upstream sends it without a length: nothing to count from
		return p.serveWhole(w, r, a)
	}
	ranges, ok := oci.ResolveAll(specs, size)
	switch {
	case !ok, size == 0: // of nothing, nothing is beyond the end: as net/http says
		return p.serveWhole(w, r, a)
	case len(ranges) == 0:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		w.Header().Set("Accept-Ranges", "bytes")
		return oci.NewError(errcode.ErrorCodeRangeInvalid, "no byte of %q is in this blob of %d bytes", r.Header.Get("Range"), size)
	case len(ranges) > 1 && total(ranges) == size: // all of it: verified like the whole
		return p.serveWhole(w, r, a)
	case len(ranges) > 1:
		return p.serveParts(w, r, a, ranges)
	}
	one := ranges[0]
	out, err := p.prepare(r.Context(), a, one)
	if err != nil {
		return a.fault(err)
	}
	blobHeaders(w, a.d)
	p.outcome(w, r, out)
	w.Header().Set("Content-Range", one.ContentRange(size))
	w.Header().Set("Content-Length", strconv.FormatInt(one.Len(), 10))
	w.WriteHeader(http.StatusPartialContent)
	p.read(r, a, one)
	p.body(w, r, func(out io.Writer) error { return a.src.copyRange(r.Context(), out, one) })
	return nil
}

// read notes which bytes clients want of a blob, where they don't want all of it.
// What `sociable doctor` reads to see whether a start would succeed is no start.
func (p *Proxy) read(req *http.Request, a *ask, ranges ...oci.Range) {
	if oci.StartsNothing(req) {
		return
	}
	if p.opt.Starts != nil && a.src.size() > ranges[0].Len() {
		p.opt.Starts.Read(req, a.d, ranges...)
	}
	for _, r := range ranges {
		if r.Len() < a.src.size() {
			p.store.Heat(a.d, r)
		}
	}
}

// total counts the bytes of ranges that add up to the blob's at most.
func total(ranges []oci.Range) (n int64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// serveParts sends several ranges, in the order they were asked for.
func (p *Proxy) serveParts(w http.ResponseWriter, r *http.Request, a *ask, ranges []oci.Range) error {
	size := a.src.size()
	if src, ok := a.src.(partsSource); ok {
		src.plan(ranges)
	}
	out, err := p.prepare(r.Context(), a, ranges[0])
	if err != nil {
		return a.fault(err)
	}
	var total countingWriter
	boundary := multipart.NewWriter(&total)
	for _, rg := range ranges {
		_, _ = boundary.CreatePart(partHeader(rg, size)) // a counter never fails
		total += countingWriter(rg.Len())
	}
	_ = boundary.Close()

	blobHeaders(w, a.d)
	p.outcome(w, r, out)
	w.Header().Set("Content-Type", "multipart/byteranges; boundary="+boundary.Boundary())
	w.Header().Set("Content-Length", strconv.FormatInt(int64(total), 10))
	w.WriteHeader(http.StatusPartialContent)
	p.read(r, a, ranges...)
	p.body(w, r, func(out io.Writer) error { return copyParts(out, r, a.src, ranges, boundary.Boundary()) })
	return nil
}

func copyParts(w io.Writer, r *http.Request, src source, ranges []oci.Range, boundary string) error {
	parts := multipart.NewWriter(w)
	if err := parts.SetBoundary(boundary); err != nil {
		return err
	}
	for _, rg := range ranges {
		if _, err := parts.CreatePart(partHeader(rg, src.size())); err != nil {
			return clientError{err}
		}
		if err := src.copyRange(r.Context(), w, rg); err != nil {
			return err
		}
	}
	if err := parts.Close(); err != nil {
		return clientError{err}
	}
	return nil
}

func partHeader(rg oci.Range, size int64) textproto.MIMEHeader {
	return textproto.MIMEHeader{
		"Content-Range": {rg.ContentRange(size)},
		"Content-Type":  {"application/octet-stream"},
	}
}

// countingWriter measures what multipart's own lines take.
type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}

var _ io.Writer = (*countingWriter)(nil)

// match applies If-None-Match (RFC 9110 §13.1.2) to an entity tag.
func match(header, tag string) bool {
	if header == "" {
		return false
	}
	for t := range strings.SplitSeq(header, ",") {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		if t == "*" || t == tag {
			return true
		}
	}
	return false
}
