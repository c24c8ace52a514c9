package storage_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPushedWhileChecked has a damaged blob pushed again while a check reads the
// damaged file: what was acknowledged stays, and nothing is wrong with it.
func TestPushedWhileChecked(t *testing.T) {
	for _, repair := range []bool{false, true} {
		t.Run(fmt.Sprint("repair ", repair), func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			body := storagetest.Bytes("x", 100_000)
			d := r.push(gcOther, string(body), nil)
			r.rot(d, 2000)
			pushed := false
			report, err := r.Check(t.Context(), storage.CheckOptions{
				Repair: repair,
				Progress: func(p storage.CheckProgress) { // first when all is read, and not yet compared
					if p.Bytes == 0 || pushed {
						return
					}
					pushed = true
					if err := r.upload(body, 1000); err != nil {
						t.Errorf("push: %v", err)
					}
				},
				Found: func(p storage.Problem) { t.Errorf("found %+v", p) },
			})
			if err != nil || !pushed || report.Problems > 0 {
				t.Errorf("Check: %+v, %v; pushed meanwhile: %t", report, err, pushed)
			}
			r.wantServed("what was pushed again", d)
			if n := len(r.quarantined()); n != 1 { // put there by the push
				t.Errorf("%d files are in quarantine, want the damaged one", n)
			}
			if found, _ := r.check(false); len(found) > 0 {
				t.Errorf("the next check finds %v", found)
			}
			r.wantUsage()
		})
	}
}

// TestPushedBeforeSetAside has a damaged blob pushed again after somebody read the
// damaged file, and before that is told.
func TestPushedBeforeSetAside(t *testing.T) {
	for name, store := range map[string]func(r *rig, body []byte){
		"pushed": func(r *rig, body []byte) { r.push(gcOther, string(body), nil) },
		"pulled": func(r *rig, body []byte) { r.mustPut(body, storage.KindBlob, storage.Durable) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), nil, storage.Options{})
			body := storagetest.Bytes("x", 100_000)
			d := digest.FromBytes(body)
			store(r, body)
			r.rot(d, 2000)
			b, err := r.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			read, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
			closeIt(t, b)
			if err != nil || digest.FromBytes(read) == d {
				t.Fatalf("the damaged file is right: %v", err)
			}
			if err := r.upload(body, 1000); err != nil {
				t.Fatal(err)
			}
			if aside, err := r.SetAside(t.Context(), d); aside || !errors.Is(err, storage.ErrRight) {
				t.Errorf("SetAside: %t, %v, want ErrRight", aside, err)
			}
			r.wantServed("what was pushed again", d)
			r.rot(d, 2000)
			if aside, err := r.SetAside(t.Context(), d); !aside || err != nil {
				t.Errorf("SetAside of what is damaged again: %t, %v", aside, err)
			}
			r.wantAbsent("what was set aside", d)
			r.wantUsage()
		})
	}
}
