package learn

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestOneReaderTeachesNothing: however often one address starts an image, and
// whatever it calls itself, it is counted once a round.
func TestOneReaderTeachesNothing(t *testing.T) {
	inWorld(t, Policy{}, func(w *world) {
		for _, agent := range []string{"soci-snapshotter/0.15.0", "other", "third"} {
			r := w.request("10.0.0.1")
			r.Header.Set("User-Agent", agent)
			w.l.Offer(r, repo, w.img.Manifest.Digest, v1.Descriptor{Digest: w.img.Index}, true)
			w.l.Read(r, w.layer, oci.Range{Off: 0, End: w.table.HeadEnd()}, span(w, 1), span(w, 2))
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if row := w.row(); row.Starts != 1 || row.Ignored != 2 || len(row.Learnt) != 0 {
			t.Errorf("%d starts, %d ignored, learnt %v", row.Starts, row.Ignored, learnt(&row))
		}
		w.start("10.0.0.2", 2)
		if row := w.row(); row.Starts != 2 || !slices.Equal(learnt(&row), []int{1, 2}) {
			t.Errorf("with another's: %d starts, learnt %v", row.Starts, learnt(&row))
		}
	})
}

// TestHowMuchAStartRead: what a start read and what the image has are counted in
// the same bytes.
func TestHowMuchAStartRead(t *testing.T) {
	inWorld(t, Policy{}, func(w *world) {
		o := &observed{manifest: w.img.Manifest.Digest, began: noon, reads: map[spanKey]time.Duration{}}
		for i := range w.table.Len() {
			o.reads[spanKey{w.layer, spanSize / 16, i}] = 0
		}
		err := w.db.View(t.Context(), func(tx storage.Tx) error {
			_, err := w.l.count(tx, &storage.LearnRow{}, o)
			return err
		})
		if want := w.table.Span(w.table.Len()-1).End - w.table.Span(0).Off; err != nil || o.total != want || o.bytes < want || o.bytes > want+int64(w.table.Len()) {
			t.Errorf("%d bytes of %d read, want %d, %v", o.bytes, o.total, want, err)
		}
	})
}

// TestLostIndexForgetsNothing: what was learnt of a layer stays while its zTOC is
// lost and made again, and goes when it can't be.
func TestLostIndexForgetsNothing(t *testing.T) {
	for name, then := range map[string]func(*world, storage.LayerRow){
		"the image has the layer no more": func(w *world, _ storage.LayerRow) {
			w.img.Layers = nil
			w.update(func(tx storage.Tx) error { return tx.PutImage(w.img) })
		},
		"the layer is refused": func(w *world, row storage.LayerRow) {
			row.State = storage.LayerSkipped
			w.update(func(tx storage.Tx) error { return tx.PutLayer(row) })
		},
	} {
		t.Run(name, func(t *testing.T) { lostIndex(t, then) })
	}
}

func lostIndex(t *testing.T, then func(*world, storage.LayerRow)) {
	t.Helper()
	inWorld(t, Policy{}, func(w *world) {
		w.start("10.0.0.1", 1, 2)
		w.start("10.0.0.2", 1, 2)
		row := storage.LayerRow{Digest: w.layer, SpanSize: spanSize / 16, State: storage.LayerWanted}
		w.update(func(tx storage.Tx) error { return tx.PutLayer(row) })
		time.Sleep(49 * time.Hour)
		synctest.Wait()
		if got := w.row(); !slices.Equal(learnt(&got), []int{1, 2}) {
			t.Errorf("while it is not indexed: learnt %v", learnt(&got))
		}
		then(w, row)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := w.row(); len(got.Learnt) != 0 {
			t.Errorf("then: learnt %v", learnt(&got))
		}
	})
}

// TestCallers: a caller is an address, or a network of IPv6, and a name.
func TestCallers(t *testing.T) {
	of := func(addr, who string) client {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = addr
		r.Header.Set("User-Agent", addr)
		return callerOf(r, func(*http.Request) string { return who })
	}
	for _, tc := range []struct {
		a, b client
		same bool
	}{
		{of("10.0.0.1:1", ""), of("10.0.0.1:2", ""), true},
		{of("10.0.0.1:1", ""), of("10.0.0.2:1", ""), false},
		{of("10.0.0.1:1", "a"), of("10.0.0.1:1", "b"), false},
		{of("[2001:db8::1]:1", ""), of("[2001:db8::ffff:2]:1", ""), true},
		{of("[2001:db8::1]:1", ""), of("[2001:db8:0:1::1]:1", ""), false},
		{of("[fe80::1%eth0]:1", ""), of("[fe80::2%eth0]:1", ""), true},
		{of("[::ffff:10.0.0.1]:1", ""), of("[::ffff:10.0.0.2]:1", ""), false},
		{of("@", ""), of("@", ""), true},
	} {
		if (tc.a == tc.b) != tc.same {
			t.Errorf("%x and %x, the same: want %t", tc.a, tc.b, tc.same)
		}
	}
}
