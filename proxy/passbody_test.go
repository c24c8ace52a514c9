package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestSlowClientHoldsNoConnection has a client of a full store not read what is passed
// on to it: others get the upstream's one connection, and it gets the rest when it reads.
func TestSlowClientHoldsNoConnection(t *testing.T) {
	layer := tarGz(t, 60)
	for _, how := range []string{"whole", "range", "spans"} {
		t.Run(how, func(t *testing.T) {
			g := newRegistry(t)
			s := newServerAt(t, t.TempDir(), g, oneConnection(t, g), func(o *storage.Options) { o.MaxBytes = 8 << 20 })
			s.p.passTurn = time.Millisecond
			up, repo := s.p.routes().def, oci.Repo{Upstream: "up", Name: "a"}
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			r := oci.Range{Off: 0, End: int64(len(layer))}
			var src source
			var err error
			if how == "spans" {
				r.Off = table.Span(1).Off
				rows := newSpanSource(s.p, up, repo, storage.LayerRow{Digest: d, Size: r.End}, &table, false)
				first, last, _ := rows.spans(r)
				src, err = rows, rows.openRest(t.Context(), first, last, storage.ErrFull)
			} else {
				if how == "range" {
					r.Off++
				}
				if src, err = s.p.passSource(t.Context(), up, repo, d, storage.ErrFull); err == nil {
					_, err = src.prepare(t.Context(), r)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			defer src.close()
			out, in := io.Pipe()
			go func() { _ = in.CloseWithError(src.copyRange(t.Context(), in, r)) }()
			got := make([]byte, 1)
			if _, err := io.ReadFull(out, got); err != nil { // the rest of that is being written
				t.Fatal(err)
			}
			other := random(1000, 9)
			a := getPatiently(t, s, "/v2/up/a/blobs/"+g.addBlob("a", other).String())
			if a.status != http.StatusOK || !bytes.Equal(a.body, other) {
				t.Errorf("another blob: status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			rest, err := io.ReadAll(out)
			if err != nil || !bytes.Equal(append(got, rest...), layer[r.Off:r.End]) {
				t.Errorf("the client has %d bytes of %d, %v", 1+len(rest), r.Len(), err)
			}
			if asked := fmt.Sprint(g.take()); bytes.Count([]byte(asked), []byte("GET")) < 3 {
				t.Errorf("upstream requests %s: the connection was not given up", asked)
			}
		})
	}
}
