package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// HeadBlob gets the size of a blob, and with it the upstream's word that the
// repository has it. An upstream that doesn't answer HEAD, or not with a size,
// is asked for one byte.
func (c *Client) HeadBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	size, err := c.headBlob(ctx, repo, d)
	if err != nil {
		return 0, fmt.Errorf("head blob %s of %s: %w", d, repo, err)
	}
	return size, nil
}

func (c *Client) headBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	q, err := blobRequest(opHeadBlob, http.MethodHead, repo, d)
	if err != nil {
		return 0, err
	}
	a, err := c.do(ctx, q)
	if err == nil {
		a.Close()
		// Some say 0 for want of an answer.
		if n := a.ContentLength; n > 0 || (n == 0 && d == d.Algorithm().FromBytes(nil)) {
			return n, nil
		}
	} else if !noHead(err) {
		return 0, err
	}
	b, err := c.blob(ctx, repo, d, oci.Range{Off: 0, End: 1})
	if err != nil {
		if r, ok := errors.AsType[*RangeError](err); ok && r.Size == 0 {
			return 0, nil
		}
		return 0, err
	}
	defer b.Close()
	if b.Size() < 0 {
		return 0, &ProtocolError{Upstream: c.opt.Name, Op: string(opHeadBlob), Reason: "tells no size"}
	}
	return b.Size(), nil
}

// noHead reports that HEAD itself may be what the upstream minds: not every
// registry has it, and a signed URL behind a redirect may be good for GET only.
func noHead(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && !e.aboutAuth() &&
		(e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented || (e.elsewhere && e.Status/100 == 4))
}

// Blob opens the bytes [r.Off, r.End) of a blob, to its end where r.End < 0;
// {0, -1} is a plain GET of the whole. ctx is also the lifetime of the Body,
// which the caller closes. A range that no byte of the blob lies in is a
// RangeError, if that is known before the first byte; else Read returns it. An
// upstream that denies bytes which there must be is unreachable.
func (c *Client) Blob(ctx context.Context, repo string, d digest.Digest, r oci.Range) (*Body, error) {
	b, err := c.blob(ctx, repo, d, r)
	if err != nil {
		return nil, fmt.Errorf("get blob %s of %s: %w", d, repo, err)
	}
	return b, nil
}

func (c *Client) blob(ctx context.Context, repo string, d digest.Digest, r oci.Range) (*Body, error) {
	q, err := blobRequest(opBlob, http.MethodGet, repo, d)
	if err != nil {
		return nil, err
	}
	if r.Off < 0 || (r.End >= 0 && r.End <= r.Off) {
		return nil, fmt.Errorf("the range [%d, %d) is empty", r.Off, r.End)
	}
	bctx, cancel := context.WithCancel(ctx)
	b := &Body{
		c: c, ctx: bctx, cancel: cancel, req: q,
		rng: oci.Range{Off: r.Off}, stop: max(r.End, -1), off: r.Off, until: -1, total: -1,
		none:    d == d.Algorithm().FromBytes(nil),
		retrier: retrier{c: c, op: opBlob, repo: repo, pausing: noPause},
	}
	err = c.retry(bctx, q, b.connect)
	if err != nil {
		cancel()
		return nil, err
	}
	b.size, b.rng.End = b.total, b.until
	return b, nil
}

func blobRequest(o op, method, repo string, d digest.Digest) (*request, error) {
	if err := oci.CheckName(repo); err != nil {
		return nil, err
	}
	if _, err := oci.ParseDigest(d.String()); err != nil {
		return nil, err
	}
	return &request{op: o, method: method, repo: repo, path: blobPath(d)}, nil
}

func blobPath(d digest.Digest) string { return "blobs/" + d.String() }

// rangeHeader asks for [off, end), or for nothing special where that is all.
func rangeHeader(off, end int64) http.Header {
	switch {
	case off == 0 && end < 0:
		return nil
	case end < 0:
		return http.Header{"Range": {"bytes=" + strconv.FormatInt(off, 10) + "-"}}
	default:
		return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, end-1)}}
	}
}
