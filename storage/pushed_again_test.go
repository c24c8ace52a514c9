package storage_test

import (
	"errors"
	"fmt"
	"io"
	"syscall"
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

// TestPushedAfterFailedQuarantine pushes a damaged blob again of which the bytes could
// not be put aside: it is not taken for what had its name before.
func TestPushedAfterFailedQuarantine(t *testing.T) {
	for name, pending := range map[string]bool{"filed": false, "pending": true, "set aside again": false} {
		again := name == "set aside again"
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			faults := storagetest.NewFaults(dir)
			r := newRig(t, dir, faults, storage.Options{})
			body := storagetest.Bytes("x", 100_000)
			d := digest.FromBytes(body)
			p := r.openPartial(d)
			writeAt(t, p, body, ranges(0, 100_000)...)
			r.push(gcOther, string(body), nil)
			if pending { // a pull that began before
				if err := p.Promote(t.Context(), storage.KindBlob, 100_000); err != nil {
					t.Fatal(err)
				}
			}
			closeIt(t, p)
			r.rot(d, 2000)
			faults.Hook(failOp("rename", "quarantine", syscall.EIO))
			if err := r.DropWrong(t.Context(), d); !errors.Is(err, syscall.EIO) {
				t.Errorf("DropWrong: %v, want %v", err, syscall.EIO)
			}
			faults.Hook(nil)
			if err := r.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			r.wantAbsent("what is damaged", d)
			r.wantUsage()
			if n := r.Usage().Stray; n != 100_000 {
				t.Errorf("%d bytes are counted as left behind, want all of it", n)
			}
			if again {
				if _, err := r.SetAside(t.Context(), d); err != nil || len(r.quarantined()) != 1 {
					t.Errorf("SetAside: %v; in quarantine: %v", err, r.quarantined())
				}
			}
			if err := r.upload(body, 1000); err != nil {
				t.Fatal(err)
			}
			r.wantServed("what was pushed again", d)
			r.wantUsage()
			if n := r.Usage().Stray; n != 0 {
				t.Errorf("%d bytes are counted as left behind", n)
			}
		})
	}
}
