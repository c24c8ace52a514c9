package storage_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestDurableSurvivesAFailedSync has a blob pushed while a pull of it, which comes to
// its end after that, is under way. What was durable before is not lost where nothing
// can be synced, whatever comes next.
func TestDurableSurvivesAFailedSync(t *testing.T) {
	body := storagetest.Bytes("x", 100_000)
	d := digest.FromBytes(body)
	for name, next := range map[string]func(r *rig) error{
		"filed":        func(r *rig) error { return r.Flush(t.Context()) },
		"mounted":      func(r *rig) error { return r.Host(t.Context(), d, content(gcOther, d, len(body))) },
		"pushed again": func(r *rig) error { return r.upload(body, 1000) },
	} {
		for _, cause := range []error{syscall.EIO, syscall.EMFILE} {
			t.Run(fmt.Sprint(name, ", ", cause), func(t *testing.T) {
				dir := t.TempDir()
				faults := storagetest.NewFaults(dir)
				r := newRig(t, dir, faults, storage.Options{})
				p := r.openPartial(d)
				writeAt(t, p, body, oci.Range{Off: 0, End: 100_000})
				if err := r.upload(body, 1000); err != nil {
					t.Fatal(err)
				}
				if err := p.Promote(t.Context(), storage.KindBlob, 100_000); err != nil {
					t.Fatal(err)
				}
				closeIt(t, p)
				faults.Hook(failOp("sync", "blobs", cause))
				if err := next(r); err != nil {
					t.Errorf("it fails though it needs no sync: %v", err)
				}
				faults.Hook(nil)
				r.wantServed("what was pushed", d)
				if err := r.Flush(t.Context()); err != nil {
					t.Errorf("Flush: %v", err)
				}
				if row, err := r.row(d); err != nil || row.Kind != storage.KindHosted {
					t.Errorf("row %+v, %v", row, err)
				}
				r.wantUsage()
				r.reopen(storage.Options{}).wantServed("what was pushed, after a restart", d)
			})
		}
	}
}
