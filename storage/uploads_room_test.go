package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestUploadAnnounced has a client say that it will send nearly all that the store
// takes: what is cached stays until the bytes come.
func TestUploadAnnounced(t *testing.T) {
	const limit = 60_000_000
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: limit})
	d := r.mustPut(kb("cached", 1000), storage.KindBlob, storage.Durable)
	u := r.newUpload(digest.SHA256)
	defer u.Release()
	if err := u.Reserve(t.Context(), limit+1); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Reserve of more than the limit: %v, want ErrFull", err)
	}
	if err := u.Reserve(t.Context(), limit-100_000); err != nil {
		t.Errorf("Reserve of nearly all: %v", err)
	}
	r.wantServed("what is cached", d)
	chunk := kb("chunk", 1000)
	for range limit/len(chunk) - 1 {
		send(t, u, chunk)
	}
	r.wantServed("what is cached", d)
	send(t, u, chunk)
	r.wantAbsent("what had to go", d)
}
