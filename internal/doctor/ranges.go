package doctor

import (
	"context"
	"fmt"
	"net/http"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// ranges reads of each indexed layer what a mount reads: the probe, the bytes
// before the first span, and one span in the middle.
func (w *walk) ranges(ctx context.Context) bool {
	var read int64
	for _, t := range w.spans {
		span := t.table.Span(t.table.Len() / 2)
		reads := []struct {
			what     string
			off, end int64
			want     digest.Digest
		}{
			{"the probe", 0, 2, ""},
			{"the header", 0, max(t.table.HeadEnd(), 1), ""},
			{"a span", span.Off, span.End, span.Digest},
		}
		for _, r := range reads {
			body, ok := w.readRange(ctx, t.layer.Digest, t.layer.Size, r.what, r.off, r.end)
			if !ok {
				return false
			}
			if r.want != "" && digest.FromBytes(body) != r.want {
				return w.tell(Fail, "range", "run: sociable fsck; and see that nothing between changes answers",
					"the bytes of a span of %s are not those that its zTOC names: containers would see I/O errors", t.layer.Digest)
			}
			read += r.end - r.off
		}
	}
	return w.tell(OK, "range", "", "%s read as a mount does, %s: lazy loading works", english.Plural(len(w.spans), "layer", ""), humanize.IBytes(uint64(read)))
}

func (w *walk) readRange(ctx context.Context, d digest.Digest, size int64, what string, off, end int64) ([]byte, bool) {
	a, err := w.get(ctx, w.client, http.MethodGet, w.url("%s/blobs/%s", w.target.repo, d), map[string]string{
		"Range": fmt.Sprintf("bytes=%d-%d", off, end-1), "Accept-Encoding": "identity",
	})
	where := fmt.Sprintf("%s of %s", what, d)
	switch {
	case err != nil:
		return nil, w.tell(Fail, "range", "", "%s: %v", where, err)
	case a.status == http.StatusOK:
		return nil, w.tell(Fail, "range", "something in front of the proxy drops Range: let it pass, and don't cache there", "%s: the whole layer came (200, not 206)", where)
	case a.status != http.StatusPartialContent:
		return nil, w.tell(Fail, "range", "see the proxy's log, and whether its upstream answers", "%s: status %d%s", where, a.status, errorMessage(a.body))
	}
	got, total, err := oci.ParseContentRange(a.header.Get("Content-Range"))
	if err != nil || total != size || got.Off != off || int64(len(a.body)) != end-off {
		return nil, w.tell(Fail, "range", "something between changes answers of the proxy", "%s: Content-Range %q and %d bytes, where bytes %d-%d/%d were asked for",
			where, a.header.Get("Content-Range"), len(a.body), off, end-1, size)
	}
	if a.head > headerTimeout {
		w.tell(Warn, "range", "see whether the upstream is slow; soci-snapshotter asks again after 3 s", "%s took %s to begin", where, a.head.Round(10e6))
	}
	return a.body, true
}
