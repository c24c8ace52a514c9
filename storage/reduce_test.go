package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
	"github.com/sociable/sociable/ztoc"
)

const spanSize = 64 << 10

// read notes that spans first to last of l were read, as a range of its file.
func (r *rig) readSpans(l *storagetest.Layer, first, last int) {
	r.Heat(l.Digest(), oci.Range{Off: l.Table.Span(first).Off, End: l.Table.Span(last).End})
}

// spansHere gives the numbers of l's spans that are blobs, having read them.
func (r *rig) spansHere(l *storagetest.Layer) (here []int) {
	r.t.Helper()
	for i := range l.Table.Len() {
		sp := l.Table.Span(i)
		if _, err := r.Stat(r.t.Context(), sp.Digest); errors.Is(err, storage.ErrNotFound) {
			continue
		}
		here = append(here, i)
		r.wantServed(fmt.Sprintf("span %d", i), sp.Digest)
	}
	return here
}

func (r *rig) heat(l *storagetest.Layer) (row storage.HeatRow) {
	r.t.Helper()
	err := r.View(r.t.Context(), func(tx storage.Tx) (err error) {
		row, err = tx.Heat(l.Digest(), l.Row.SpanSize)
		return err
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		r.t.Errorf("Heat: %v", err)
	}
	return row
}

// hot gives the numbers of the spans that row says were read.
func hot(row storage.HeatRow) (spans []int) {
	for i, s := range row.Spans {
		if s.Reads > 0 {
			spans = append(spans, i)
		}
	}
	return spans
}

// rot changes the byte at off of d's file.
func (r *rig) rot(d digest.Digest, off int64) {
	r.t.Helper()
	file := filepath.Join(r.dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	body, err := os.ReadFile(file)
	if err == nil {
		body[off] ^= 1
		err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, body, 0o600))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestHeat files which spans the ranges were.
func TestHeat(t *testing.T) {
	l := storagetest.NewLayer(t, "x", 500_000, spanSize)
	n := l.Table.Len()
	if n < 10 {
		t.Fatalf("the layer has %d spans", n)
	}
	at := func(i int) ztoc.Span { return l.Table.Span(i) }
	for _, c := range []struct {
		name   string
		ranges []oci.Range
		want   []int
	}{
		{"nothing", nil, nil},
		{"its head", []oci.Range{{Off: 0, End: 2}, {Off: 0, End: 10}}, nil},
		{"one span exactly", []oci.Range{{Off: at(3).Off, End: at(3).End}}, []int{3}},
		{"one byte", []oci.Range{{Off: at(4).Off + 7, End: at(4).Off + 8}}, []int{4}},
		{"neighbours, one after another", []oci.Range{{Off: at(2).Off, End: at(2).End}, {Off: at(3).Off, End: at(3).End}}, []int{2, 3}},
		{"over a border", []oci.Range{{Off: at(5).Off + 9, End: at(6).Off + 9}}, []int{5, 6}},
		{"the first and the last", []oci.Range{{Off: 0, End: 600}, {Off: l.Row.Size - 1, End: l.Row.Size}}, []int{0, n - 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := &clock{t: noon}
			r := newRig(t, t.TempDir(), nil, storage.Options{Now: now.now})
			l.Store(t, r.Store)
			plain := r.mustPut(kb("plain", 50), storage.KindBlob, storage.Durable)
			for round := range 2 {
				for _, rg := range c.ranges {
					r.Heat(l.Digest(), rg)
					r.Heat(l.Digest(), rg) // at the same time: counts once
					r.Heat(plain, rg)      // is no layer
				}
				now.forward(time.Hour)
				if err := r.Flush(t.Context()); err != nil {
					t.Fatalf("Flush: %v", err)
				}
				row := r.heat(l)
				if got := hot(row); !slices.Equal(got, c.want) {
					t.Errorf("spans %v are hot, want %v", got, c.want)
				}
				for _, i := range c.want {
					if h := row.Spans[i]; h.Reads != uint32(round+1) || !h.Last.Equal(now.now()) {
						t.Errorf("span %d: %+v, want %d reads, the last at %v", i, h, round+1, now.now())
					}
				}
				r = r.reopen(storage.Options{Now: now.now})
			}
		})
	}
}

// TestHeatOfWantedLayer has a layer read before its zTOC is built: that counts.
func TestHeatOfWantedLayer(t *testing.T) {
	l := storagetest.NewLayer(t, "x", 300_000, spanSize)
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	err := r.Update(t.Context(), func(tx storage.Tx) error {
		return tx.PutLayer(storage.LayerRow{Digest: l.Digest(), SpanSize: spanSize, State: storage.LayerWanted})
	})
	if err != nil {
		t.Fatal(err)
	}
	r.readSpans(l, 2, 2)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	r.readSpans(l, 4, 4)
	l.Store(t, r.Store)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	if got := hot(r.heat(l)); !slices.Equal(got, []int{2, 4}) {
		t.Errorf("spans %v are hot, want 2 and 4", got)
	}
}

// TestHeatIsBounded reads more places than are remembered.
func TestHeatIsBounded(t *testing.T) {
	l := storagetest.NewLayer(t, "x", 300_000, spanSize)
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	l.Store(t, r.Store)
	for i := range storage.MaxHeat + 1000 {
		r.Heat(digest.FromString("x"), oci.Range{Off: int64(2 * i), End: int64(2*i) + 1})
	}
	if n := r.HeatNoted(); n > storage.MaxHeat {
		t.Errorf("%d ranges are remembered, at most %d should be", n, storage.MaxHeat)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	if n := r.HeatNoted(); n != 0 {
		t.Errorf("%d ranges of no layer are remembered", n)
	}
	r.readSpans(l, 1, 1)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	if got := hot(r.heat(l)); !slices.Equal(got, []int{1}) {
		t.Errorf("spans %v are hot, want 1", got)
	}
}

// TestReduce evicts an indexed layer: the spans that were read stay.
func TestReduce(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 1_000_000, spanSize)
	n := l.Table.Len()
	limit := l.Row.Size + l.Row.ZTOCSize + 1_000_000
	for _, c := range []struct {
		name string
		read func(r *rig, now *clock)
		want []int
	}{
		{"read by nobody", func(*rig, *clock) {}, nil},
		{"read here and there", func(r *rig, now *clock) { r.readSpans(l, 3, 4); r.readSpans(l, n-1, n-1) }, []int{3, 4, n - 1}},
		{"read before a restart", func(r *rig, now *clock) {
			r.readSpans(l, 5, 5)
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			*r = *r.reopen(storage.Options{MaxBytes: limit, Now: now.now})
		}, []int{5}},
		{"more than half", func(r *rig, now *clock) { // most read first, then last read
			r.readSpans(l, 8, 9)
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			r.readSpans(l, 0, n-1)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := &clock{t: noon}
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: limit, Now: now.now})
			l.Store(t, r.Store)
			now.forward(time.Hour)
			c.read(r, now)
			now.forward(time.Hour)
			other := r.mustPut(kb("other", 300), storage.KindBlob, storage.Durable)
			now.forward(time.Hour)
			next := r.mustPut(kb("next", 800), storage.KindBlob, storage.Durable)
			r.wantAbsent("the layer, which is the oldest", l.Digest())
			r.wantServed("other", other)
			r.wantServed("next", next)
			r.wantServed("zTOC", l.Row.ZTOC)
			got := r.spansHere(l)
			if c.name == "more than half" {
				if !slices.Contains(got, 8) || !slices.Contains(got, 9) || len(got) < n/3 || len(got) > n/2+1 {
					t.Errorf("spans %v of %d are here, want half of them, and 8 and 9", got, n)
				}
			} else if !slices.Equal(got, c.want) {
				t.Errorf("spans %v are here, want %v", got, c.want)
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			r.wantUsage()
			r.wantNoGarbage()
			r = r.reopen(storage.Options{})
			if again := r.spansHere(l); !slices.Equal(again, got) {
				t.Errorf("spans %v are here after a restart, want %v", again, got)
			}
			row, err := r.row(l.Table.Span(8).Digest)
			if slices.Contains(got, 8) && (err != nil || row.Kind != storage.KindSpan || row.Of != l.Digest()) {
				t.Errorf("row of a span: %+v, %v", row, err)
			}
		})
	}
}

// TestReduceDamaged has a layer whose bytes rotted: no wrong span comes of it.
func TestReduceDamaged(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 1_000_000, spanSize)
	now := &clock{t: noon}
	limit := l.Row.Size + l.Row.ZTOCSize + 300_000
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: limit, Now: now.now})
	l.Store(t, r.Store)
	r.rot(l.Digest(), l.Table.Span(2).Off+100)
	now.forward(time.Hour)
	for _, i := range []int{2, 1, 3} {
		r.readSpans(l, i, i)
	}
	r.mustPut(kb("other", 500), storage.KindBlob, storage.Durable)
	r.wantAbsent("the layer", l.Digest())
	r.spansHere(l)
	r.wantAbsent("the span that rotted", l.Table.Span(2).Digest)
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	r.wantUsage()
	r.wantNoGarbage()
}

// TestReduceWithinLimit reduces one layer after another while more come than
// fit, and counts the bytes on the medium all the while.
func TestReduceWithinLimit(t *testing.T) {
	const limit = 2_000_000
	dir := t.TempDir()
	medium := &meter{}
	blobs, err := disk.NewFS(dir, medium)
	if err != nil {
		t.Fatalf("open blobs: %v", err)
	}
	s, stop := storagetest.Open(t, dir, storage.Options{Blobs: blobs, MaxBytes: limit})
	var layers []*storagetest.Layer
	for i := range 5 {
		layers = append(layers, storagetest.NewLayer(t, fmt.Sprint(i), 400_000, spanSize))
	}
	var work sync.WaitGroup
	for i := range 50 { // fills at once, each layer ten times over
		work.Go(func() {
			r := &rig{Store: s, t: t}
			l := layers[i%len(layers)]
			p, err := s.OpenPartial(t.Context(), l.Digest())
			if errors.Is(err, storage.ErrBusy) {
				return
			}
			if err != nil {
				t.Errorf("OpenPartial: %v", err)
				return
			}
			_, err = p.WriteAt(l.Body, 0)
			if err == nil {
				err = p.Promote(t.Context(), storage.KindBlob, l.Row.Size)
			}
			if err := errors.Join(err, p.Close()); err != nil {
				if !errors.Is(err, storage.ErrFull) {
					t.Errorf("fill: %v", err)
				}
				return
			}
			if table, err := l.Table.MarshalBinary(); err == nil {
				_ = s.Update(t.Context(), func(tx storage.Tx) error {
					return errors.Join(tx.PutLayer(l.Row), tx.PutSpans(l.Row.Digest, l.Row.SpanSize, table))
				})
			}
			r.readSpans(l, i%5, i%5+1)
		})
	}
	work.Wait()
	if most := medium.most.Load(); most > limit || most < limit/2 {
		t.Errorf("the medium held up to %d bytes, the limit is %d", most, limit)
	}
	stop()
	after := newRig(t, dir, nil, storage.Options{})
	after.wantSound(nil)
	after.wantNoGarbage()
}
