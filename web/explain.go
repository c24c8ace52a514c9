package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Explain says what the running configuration does with an image, as JSON can have
// it. Its errors are for people.
type Explain func(ctx context.Context, name string, offline bool) (any, error)

func (s *Web) explain(w http.ResponseWriter, r *http.Request) error {
	if s.opt.Explain == nil {
		return oci.NewError(errcode.ErrorCodeUnsupported, "this server has no configuration to explain")
	}
	q := r.URL.Query()
	x, err := s.opt.Explain(r.Context(), q.Get("name"), q.Get("offline") == "true")
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return operatorError(err)
	case err != nil:
		return wrong(err)
	}
	return sendJSON(w, x)
}
