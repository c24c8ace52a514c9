package disk_test

import (
	"testing"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestContract(t *testing.T) {
	storagetest.Blobs(t, func(t *testing.T) storage.Blobs {
		d, err := disk.New(t.TempDir())
		if err != nil {
			t.Fatalf("New: %v", err)
		}
		return d
	})
}
