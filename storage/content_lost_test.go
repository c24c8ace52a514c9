package storage_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func (r *rig) wantContentBytes(when string, want int64) {
	r.t.Helper()
	err := r.View(r.t.Context(), func(tx storage.Tx) error {
		n, err := tx.ContentBytes(gcApp.Upstream)
		if n != want {
			r.t.Errorf("%s: %d bytes count, want %d", when, n, want)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestLostDoesNotCount loses a layer that was pushed to two repositories in each
// way: it does not count from then on, and counts again once it is here again.
func TestLostDoesNotCount(t *testing.T) {
	const layer, rest = "a layer of 20 bytes.", 13
	damage := func(r *rig, d digest.Digest) { r.rot(d, 3) }
	check := func(r *rig, repair bool) {
		if report, err := r.Check(t.Context(), storage.CheckOptions{Repair: repair}); err != nil || report.Problems == 0 {
			t.Errorf("the check: %+v, %v", report, err)
		}
	}
	for name, test := range map[string]struct {
		damage func(*rig, digest.Digest)
		notice func(*rig, digest.Digest)
	}{
		"damaged, checked": {damage, func(r *rig, _ digest.Digest) { check(r, true) }},
		"gone, read": {
			func(r *rig, d digest.Digest) {
				if err := os.Remove(r.file(d)); err != nil {
					r.t.Fatal(err)
				}
			},
			func(r *rig, d digest.Digest) { r.wantAbsent("what has no file", d) },
		},
		"found damaged by a check that repairs nothing, read": {damage, func(r *rig, d digest.Digest) {
			check(r, false)
			r.wantAbsent("what is damaged", d)
		}},
		"set aside": {damage, func(r *rig, d digest.Digest) {
			if _, err := r.SetAside(r.t.Context(), d); err != nil {
				r.t.Fatal(err)
			}
		}},
		"its row lost, and its file": {
			func(r *rig, d digest.Digest) {
				if err := errors.Join(r.Update(r.t.Context(), func(tx storage.Tx) error { return tx.DeleteBlob(d) }), os.Remove(r.file(d))); err != nil {
					r.t.Fatal(err)
				}
			},
			func(r *rig, _ digest.Digest) { check(r, true) },
		},
	} {
		for how, again := range map[string]func(*rig){
			"pushed":           func(r *rig) { r.push(gcApp, layer, nil) },
			"pushed elsewhere": func(r *rig) { r.push(oci.Repo{Upstream: "elsewhere", Name: "a"}, layer, nil) },
			"pulled":           func(r *rig) { r.mustPut([]byte(layer), storage.KindBlob, storage.Cached) },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				r := newRig(t, t.TempDir(), nil, storage.Options{})
				other := oci.Repo{Upstream: gcApp.Upstream, Name: "the/other"}
				d := r.push(gcApp, layer, nil)
				r.push(other, layer, nil)
				r.push(gcApp, "a manifest of", &oci.Manifest{Layers: []v1.Descriptor{{Digest: d, Size: 20}}})
				r.wantContentBytes("pushed", 20+rest)
				test.damage(r, d)
				r = r.reopen(storage.Options{})
				test.notice(r, d)
				r.wantContentBytes("lost", rest)
				again(r)
				if err := r.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				r = r.reopen(storage.Options{})
				r.wantServed("what is here again", d)
				r.wantContentBytes("here again", 20+rest)
				err := r.Update(t.Context(), func(tx storage.Tx) error {
					return errors.Join(tx.DeleteContent(gcApp, d), tx.DeleteContent(other, d))
				})
				if err != nil {
					t.Fatal(err)
				}
				r.wantContentBytes("deleted", rest)
			})
		}
	}
}

// TestLostComesByPull has a blob of a hosted repository be lost, and come back by a
// pull: others that are pulled do not push it out, since it counts and is promised
// to those who read that repository.
func TestLostComesByPull(t *testing.T) {
	body := kb("hosted", 100)
	put := func(kind storage.Kind, dur storage.Durability) func(*rig) {
		return func(r *rig) { r.mustPut(body, kind, dur) }
	}
	for name, pull := range map[string]func(*rig){
		"a blob":                  put(storage.KindBlob, storage.Cached),
		"a blob that is imported": put(storage.KindBlob, storage.Durable),
		"a span":                  put(storage.KindSpan, storage.Cached),
		"a blob that came in pieces": func(r *rig) {
			p := r.openPartial(digest.FromBytes(body))
			writeAt(r.t, p, body, ranges(0, 100_000)...)
			if err := errors.Join(p.Promote(r.t.Context(), storage.KindBlob, 100_000), p.Close()); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 400_000})
			d := r.push(gcApp, string(body), nil)
			if err := os.Remove(r.file(d)); err != nil {
				t.Fatal(err)
			}
			r.wantAbsent("what has no file", d)
			r.wantContentBytes("lost", 0)
			pull(r)
			if err := r.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.wantUsage()
			if row, err := r.row(d); err != nil || row.Kind != storage.KindHosted {
				t.Errorf("what is here again is %+v, %v", row, err)
			}
			for i := range 10 {
				r.mustPut(kb(fmt.Sprint("other", i), 90), storage.KindBlob, storage.Durable)
			}
			r.wantServed("what is here again, after others were pulled", d)
			r.wantContentBytes("after others were pulled", 100_000)
			r.wantUsage()
		})
	}
}
