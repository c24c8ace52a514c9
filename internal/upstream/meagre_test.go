package upstream

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// TestMeagreUpstreamIsGivenUp reads from an upstream that sends a few bytes at each
// request; one that now and then sends more is stuck to.
func TestMeagreUpstreamIsGivenUp(t *testing.T) {
	data := randomBytes(4 * faultySize)
	for name, tc := range map[string]struct {
		much int // each so many requests bring enough
		ok   bool
	}{
		"always": {1 << 30, false},
		"not":    {maxMeagre / 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			reg := faultyRegistry(t, data, func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
				off, end := asked(r, len(data))
				send := min(end, off+100)
				if n%tc.much == tc.much-1 {
					send = min(end, off+meagreBytes)
				}
				partial(w, data[off:send], oci.Range{Off: int64(off), End: int64(send)}.ContentRange(int64(len(data))))
			})
			c := newClient(t, reg.URL, func(o *Options) { o.Backoff, o.MaxBackoff = time.Nanosecond, time.Nanosecond })
			got, err := readBlob(t, c, reg.addBlob(data), oci.Range{Off: 1, End: -1})
			if tc.ok && (err != nil || !bytes.Equal(got, data[1:])) {
				t.Errorf("%d of %d bytes, %v", len(got), len(data)-1, err)
			}
			if n := reg.count("/blobs/"); !tc.ok && (!IsUnavailable(err) || n != maxMeagre+1) {
				t.Errorf("%v after %d requests, want it after %d", err, n, maxMeagre+1)
			}
		})
	}
}
