package hooks

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

const (
	// maxBody bounds one notification. Registries bundle at most some hundred
	// events.
	maxBody = 1 << 20
	// maxBodyTime is how long a sender may take for one.
	maxBodyTime = 10 * time.Second
	// maxSigned is how many are read at once of senders of whom nothing is known
	// before all is read.
	maxSigned = 8
)

// admitted reads the body of a request that shows a secret, or is signed with
// one.
func (h *Hooks) admitted(w http.ResponseWriter, r *http.Request, secrets []string) ([]byte, error) {
	denied := &oci.Error{Code: errcode.ErrorCodeUnauthorized,
		Message: "the secret is missing or wrong: send it as Authorization, as ?token=, or sign with X-Hub-Signature-256"}
	signature := r.Header.Get("X-Hub-Signature-256")
	if signature == "" {
		if !shows(r, secrets) {
			return nil, denied
		}
		return h.body(w, r)
	}
	if !wellFormed(signature) {
		return nil, denied
	}
	if err := h.enter(r.Context()); err != nil {
		return nil, err
	}
	defer func() { <-h.signing }()
	body, err := h.body(w, r)
	if err != nil {
		return nil, err
	}
	if !signed(signature, body, secrets) {
		return nil, denied
	}
	return body, nil
}

// enter waits until one more body may be read to see who signed it. Those that
// are being read end soon.
func (h *Hooks) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.bodyTime)
	defer cancel()
	select {
	case h.signing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: h.bodyTime, Message: "too many notifications are being read: send it again", Err: context.Cause(ctx)}
	}
}

// body reads all of a notification, which must come in time.
func (h *Hooks) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(h.bodyTime)) // a test's connection may have none
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		_ = rc.SetReadDeadline(time.Time{})
		return body, nil
	}
	// The time stays as it is: net/http reads what is left of a body before it answers.
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, tooLarge("at most 1 MiB is taken")
	}
	broken := &oci.Error{Code: errcode.ErrorCodeSizeInvalid, Message: "the notification broke off", Err: err}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close") // the rest of it is no next request
		broken.Status, broken.Message = http.StatusRequestTimeout, "the notification did not come within "+h.bodyTime.String()
	}
	return nil, broken
}
