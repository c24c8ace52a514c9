package proxy

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// pause is one between ranges. It never ends as a fill's time to linger does.
const pause = lingerFor/2 + time.Millisecond

var lingering = digest.FromString("a blob that is read by ranges")

// useFill joins or makes the fill of the blob, lands one cell that is missing, and
// gives the fill back.
func (b *bubble) useFill(t *testing.T, i int) *fill {
	t.Helper()
	f, _, err := b.p.acquire(t.Context(), b.up, oci.Repo{Upstream: "up", Name: "a"}, lingering, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.release()
	r, state := f.claim(oci.Range{Off: int64(i) * cell, End: int64(i+1) * cell})
	if state != claimOurs {
		t.Fatalf("cell %d is here", i)
	}
	if _, err := f.part.WriteAt(random(cell, byte(i)), r.Off); err != nil {
		t.Fatal(err)
	}
	f.landed(r)
	return f
}

// filings says how often the blob's file was synced.
func (b *bubble) filings() (count func() int) {
	var n atomic.Int32
	b.faults.Hook(func(s storagetest.Step) error {
		if s.Op == "sync" && strings.HasPrefix(s.Name, "partial/") {
			n.Add(1)
		}
		return nil
	})
	return func() int { return int(n.Load()) }
}

// filed gives what the rows say is here of the blob.
func (b *bubble) filed(t *testing.T) (have oci.Extents) {
	t.Helper()
	err := b.store.View(t.Context(), func(tx storage.Tx) error {
		row, err := tx.Partial(lingering)
		have = slices.Clone(row.Have)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// TestFillInUseStaysOpen: ranges that come with pauses, as those of a lazy mount do,
// find one fill, and what they brought is filed when they have come to an end.
func TestFillInUseStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, nil)
		count := b.filings()
		first := b.useFill(t, 0)
		for i := 1; i <= 20; i++ {
			time.Sleep(pause)
			if b.useFill(t, i) != first {
				t.Fatalf("range %d finds another fill", i)
			}
		}
		if n := count(); n != 0 {
			t.Errorf("it was filed %d times while it was used", n)
		}
		time.Sleep(lingerFor + time.Millisecond)
		synctest.Wait()
		if _, at := b.p.filling(b.up, lingering); at || count() != 1 {
			t.Errorf("unused for a moment, it is open: %t, and was filed %d times; want once", at, count())
		}
		if got := b.filed(t).Bytes(); got != 21*cell {
			t.Errorf("%d bytes are filed, want all %d", got, 21*cell)
		}
	})
}

// TestWhatIsWholeDoesNotLinger: a fill that lingered, was joined and is whole then ends at
// once. Who asks after a purge, say, would be answered by what it has.
func TestWhatIsWholeDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, nil)
		b.useFill(t, 0)
		f, _, err := b.p.acquire(t.Context(), b.up, oci.Repo{Upstream: "up", Name: "a"}, lingering, true)
		if err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.verified = true // as its pump does
		f.mu.Unlock()
		f.release()
		synctest.Wait() // no time passes
		if _, at := b.p.filling(b.up, lingering); at {
			t.Error("it lingers")
		}
	})
}

// TestFillInUseIsLedByWhoUsesIt: a fill that lingers asks as whoever uses it, with the
// configuration of that time, and not as who began it; one that somebody uses stays with
// who leads it, and one who may not have what it brings changes nothing.
func TestFillInUseIsLedByWhoUsesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, nil)
		f := b.useFill(t, 0)
		join := func(up *Upstream, repo string, entitled bool) error {
			got, made, err := b.p.acquire(t.Context(), up, oci.Repo{Upstream: "up", Name: repo}, lingering, entitled)
			if err == nil && (made || got != f) {
				t.Fatal("it finds another fill")
			}
			return err
		}
		reloaded, third := *b.up, *b.up
		if err := join(&reloaded, "c", false); err != errUnproven || f.asks().up != b.up { //nolint:errorlint // the very value
			t.Errorf("who may not have it: %v, asked as before: %t", err, f.asks().up == b.up)
		}
		if err := join(&reloaded, "b", true); err != nil || f.asks() != (asker{&reloaded, oci.Repo{Upstream: "up", Name: "b"}}) {
			t.Errorf("who uses what lingers: %v, asked as %v", err, f.asks())
		}
		if err := join(&third, "a", true); err != nil || f.asks().up != &reloaded {
			t.Errorf("who joins another: %v, asked as the first of them: %t", err, f.asks().up == &reloaded)
		}
		f.release()
		f.release()
		if err := join(&third, "a", true); err != nil || f.asks().up != &third {
			t.Errorf("once both have left: %v, asked as who comes: %t", err, f.asks().up == &third)
		}
		f.release()
	})
}

// TestFillInUseIsFiled: one that is used for ever is filed now and then all the same.
func TestFillInUseIsFiled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, nil)
		count := b.filings()
		used := 0
		for began := time.Now(); time.Since(began) < 3*lingerMost; time.Sleep(pause) {
			b.useFill(t, used)
			used++
		}
		if n := count(); n < 2 || n > 3 {
			t.Errorf("it was filed %d times in three times %v", n, lingerMost)
		}
		if got, most := b.filed(t).Bytes(), int64(used)*cell; got < most/2 {
			t.Errorf("%d of %d bytes are filed", got, most)
		}
	})
}

// TestFillIsFiledBesideUse: who comes as it is being filed does not wait for the
// medium, and what it brings is filed in its turn.
func TestFillIsFiledBesideUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, nil)
		count := b.filings()
		first := b.useFill(t, 0)
		slow := make(chan struct{})
		b.meta.gate.Store(&slow)
		time.Sleep(lingerFor + time.Millisecond)
		synctest.Wait()
		if n := count(); n != 1 {
			t.Fatalf("it is being filed %d times, want once", n)
		}
		if b.useFill(t, 1) != first { // it would wait for ever
			t.Error("a fill that is being filed is not joined")
		}
		close(slow)
		synctest.Wait()
		if f, at := b.p.filling(b.up, lingering); !at {
			t.Errorf("%v: what was used meanwhile was put away", f)
		}
		time.Sleep(lingerFor)
		synctest.Wait()
		if _, at := b.p.filling(b.up, lingering); at || count() != 2 || b.filed(t).Bytes() != 2*cell {
			t.Errorf("in the end it is open: %t, filed %d times, with %d bytes", at, count(), b.filed(t).Bytes())
		}
	})
}
