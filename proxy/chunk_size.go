package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

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

const (
	// maxUnwanted and unwantedTime bound what is read of a body that is refused: a
	// client that is still sending when the connection is closed does not see why.
	maxUnwanted  = 16 << 20
	unwantedTime = 5 * time.Second
)

// discard reads the rest of a request that is refused, within bounds.
func discard(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" { // nothing is sent before it is asked for
		return
	}
	rc := http.NewResponseController(w)
	if rc.SetReadDeadline(time.Now().Add(unwantedTime)) != nil {
		return // nothing would end the wait
	}
	if _, err := io.CopyN(io.Discard, r.Body, maxUnwanted); errors.Is(err, io.EOF) {
		_ = rc.SetReadDeadline(time.Time{}) // it could be set a moment ago
	}
}
