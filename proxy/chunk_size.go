package proxy

import (
	"context"
	"fmt"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// sizeError is a chunk that is not as long as its Content-Range says.
type sizeError struct{ got, want int64 }

func (e sizeError) Error() string {
	return fmt.Sprintf("the chunk has %d bytes, its Content-Range says %d", e.got, e.want)
}

// misfit answers for such a chunk. What came of it stays: where to go on is what
// the upload says, see getUpload.
func (s *push) misfit(r *http.Request, e sizeError) error {
	err := s.u.Checkpoint(context.WithoutCancel(r.Context()))
	if err != nil {
		return s.p.uploadError("keep a chunk", err)
	}
	return oci.NewError(errcode.ErrorCodeSizeInvalid, "%s: ask where to go on", e.Error())
}
