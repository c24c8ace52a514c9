package storage_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestScanAtOnce has one-time pulls of three times the cache pass by, so many of them
// under way at a time, in a store of which 60 % were read again. However long that
// goes on, it costs no more of these than what is under way has no room beside them.
func TestScanAtOnce(t *testing.T) {
	for _, c := range []struct{ atOnce, stay int }{
		{1, 12},
		{6, 12}, // all that is under way, one that is done, and a twentieth have room
		{10, 8},
		{16, 2},
	} {
		for _, ahead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d at once, room made ahead %v", c.atOnce, ahead), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000})
					hot := r.putMany("hot", 12, storage.KindBlob)
					if ahead {
						stop := r.running()
						defer stop()
					}
					pass(time.Hour)
					r.wantAllServed(hot)
					pass(time.Minute)
					r.scan(c.atOnce, 60)
					left := 0
					for _, d := range hot {
						if _, err := r.Stat(t.Context(), d); err == nil {
							left++
						}
					}
					if left < c.stay {
						t.Errorf("%d of %d that were read again are left, want %d", left, len(hot), c.stay)
					}
				})
			})
		}
	}
}

// scan has so many blobs of 50,000 bytes pulled, at most atOnce of them at a time:
// each finds room.
func (r *rig) scan(atOnce, pulls int) {
	r.t.Helper()
	end := func(p *storage.Partial) {
		if err := p.Promote(r.t.Context(), storage.KindBlob, 50_000); err != nil {
			r.t.Errorf("Promote: %v", err)
		}
		closeIt(r.t, p)
		if err := r.Flush(r.t.Context()); err != nil {
			r.t.Errorf("Flush: %v", err)
		}
		pass(time.Second)
	}
	var underWay []*storage.Partial
	for i := range pulls {
		body := kb(fmt.Sprint("once", i), 50)
		p := r.openPartial(digest.FromBytes(body))
		if err := p.Reserve(r.t.Context(), 50_000); err != nil {
			r.t.Errorf("Reserve: %v", err)
		}
		writeAt(r.t, p, body, ranges(0, 50_000)...)
		pass(time.Second)
		if underWay = append(underWay, p); len(underWay) == atOnce {
			end(underWay[0])
			underWay = underWay[1:]
		}
	}
	for _, p := range underWay {
		end(p)
	}
}
