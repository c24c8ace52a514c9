package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// failOp fails one operation below one folder; "" is every folder.
func failOp(op, under string, err error) func(storagetest.Step) error {
	return func(s storagetest.Step) error {
		if s.Op == op && strings.HasPrefix(s.Name, under) {
			return err
		}
		return nil
	}
}

// TestFaults fails every operation in turn, once for each error, while each way
// of storing a blob is at work. Whatever the way says, it must be true; when
// the fault has passed everything works again.
func TestFaults(t *testing.T) {
	ops := []string{"create", "write", "sync", "truncate", "chmod", "rename", "remove", "mkdir", "update", "updated"}
	for way, store := range waysToStore() {
		for _, op := range ops {
			for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
				t.Run(fmt.Sprintf("%s, %s, %s", way, op, cause), func(t *testing.T) {
					dir := t.TempDir()
					faults := storagetest.NewFaults(dir)
					r := newRig(t, dir, faults, storage.Options{})
					body := storagetest.Bytes("x", 5000)
					d := digest.FromBytes(body)
					faults.Hook(failOp(op, "", cause))
					durable, err := store(r, body)
					if err != nil {
						if !errors.Is(err, cause) {
							t.Errorf("store: %v, want %v", err, cause)
						}
						tells := op == "create" || op == "write" || op == "sync"
						if tells && errors.Is(err, storage.ErrFull) != errors.Is(cause, syscall.ENOSPC) {
							t.Errorf("store: %v, want ErrFull exactly for %v", err, syscall.ENOSPC)
						}
					} else {
						r.wantServed("a stored blob", d)
					}
					flushed := r.Flush(t.Context())
					faults.Hook(nil)

					later := newHistory(r)
					later.contents[d] = body
					r.wantSound(later.contents)
					if err == nil && (durable || flushed == nil) {
						later.kept[d] = true
					}
					if flushed != nil && op != "sync" && err == nil {
						r.wantServed("a blob that could not be filed", d)
						if err := r.Flush(t.Context()); err != nil {
							t.Errorf("Flush, the fault being over: %v", err)
						}
						later.kept[d] = true
					}
					if _, err := store(r, body); err != nil {
						t.Errorf("store, the fault being over: %v", err)
					}
					if err := r.Flush(t.Context()); err != nil {
						t.Errorf("Flush, the fault being over: %v", err)
					}
					later.kept[d] = true
					r.wantUsage()
					again := r.reopen(storage.Options{})
					again.wantSound(later.contents)
					later.wantKept(again)
					if err := again.Sweep(t.Context()); err != nil {
						t.Errorf("Sweep: %v", err)
					}
					again.wantNoGarbage()
				})
			}
		}
	}
}

// waysToStore say whether what they stored is durable.
func waysToStore() map[string]func(*rig, []byte) (durable bool, err error) {
	return map[string]func(*rig, []byte) (bool, error){
		"cached": func(r *rig, body []byte) (bool, error) {
			_, err := r.put(body, storage.KindBlob, storage.Cached)
			return false, err
		},
		"durable": func(r *rig, body []byte) (bool, error) {
			_, err := r.put(body, storage.KindBlob, storage.Durable)
			return true, err
		},
		"put": func(r *rig, body []byte) (bool, error) {
			row := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindManifest}
			return true, r.Put(r.t.Context(), row, body, nil)
		},
		"upload": func(r *rig, body []byte) (bool, error) { return true, r.upload(body, len(body)/2) },
		"mount": func(r *rig, body []byte) (bool, error) {
			d, err := r.put(body, storage.KindBlob, storage.Cached)
			if err == nil {
				err = r.Host(r.t.Context(), d, content(app, d, len(body)))
			}
			return true, err
		},
		"promoted": func(r *rig, body []byte) (bool, error) {
			p, err := r.OpenPartial(r.t.Context(), digest.FromBytes(body))
			if err != nil {
				return false, err
			}
			half := int64(len(body) / 2)
			_, err = p.WriteAt(body[:half], 0)
			if err == nil {
				err = p.Checkpoint(r.t.Context(), int64(len(body)), ranges(0, half))
			}
			if err == nil {
				_, err = p.WriteAt(append(body[half:len(body):len(body)], "more"...), half)
			}
			if err == nil {
				err = p.Promote(r.t.Context(), storage.KindBlob, int64(len(body)))
			}
			return false, errors.Join(err, p.Close())
		},
	}
}
