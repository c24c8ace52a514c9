package storagetest

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// blobsQuarantine takes a blob away from everything but those who have it open.
func blobsQuarantine(t *testing.T, s storage.Blobs) {
	body := Bytes("bad", 5000)
	d, other := commit(t, s, body), commit(t, s, Bytes("good", 100))
	wantQuarantined(t, s, 0)
	for range 2 { // it may come again, and be bad again
		open, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if err := s.Quarantine(t.Context(), d); err != nil {
			t.Fatalf("Quarantine: %v", err)
		}
		wantBytes(t, open, body)
		if err := open.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wantAbsent(t, s, d)
		wantQuarantined(t, s, int64(len(body)))
		err = s.Walk(t.Context(), func(found digest.Digest, _ func() (int64, error)) error {
			if found != other {
				t.Errorf("Walk finds %s", found)
			}
			return nil
		})
		if err != nil {
			t.Errorf("Walk: %v", err)
		}
		if err := s.Quarantine(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Quarantine of what is not there: %v, want ErrNotFound", err)
		}
		wantBlob(t, s, other, Bytes("good", 100))
		commit(t, s, body)
		wantBlob(t, s, d, body)
	}
	if err := s.Quarantine(t.Context(), "sha256:../../x"); err == nil {
		t.Error("Quarantine took a path for a digest")
	}
}

func wantQuarantined(t *testing.T, s storage.Blobs, want int64) {
	t.Helper()
	if n, err := s.Quarantined(t.Context()); n != want || err != nil {
		t.Errorf("Quarantined: %d, %v, want %d", n, err, want)
	}
}
