package upstream

import (
	"errors"
	"net/http"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestEmptyDenied asks for the first byte of a blob that has none: 416 is right there.
func TestEmptyDenied(t *testing.T) {
	reg := faultyRegistry(t, nil, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	})
	_, err := readBlob(t, newClient(t, reg.URL), reg.addBlob(nil), oci.Range{Off: 0, End: 1})
	if _, ok := errors.AsType[*RangeError](err); !ok || IsUnavailable(err) {
		t.Errorf("got the error %v", err)
	}
	if n := reg.count("/blobs/"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}
