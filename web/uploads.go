package web

import (
	"context"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// uploadWait is how long the cancellation of an upload waits for a request that has
// it.
const uploadWait = 3 * time.Second

// CancelUpload ends the upload id; see storage.Store.CancelUpload. storage.ErrNotFound,
// storage.ErrBusy.
func CancelUpload(ctx context.Context, s *storage.Store, id string) (storage.UploadInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, uploadWait)
	defer cancel()
	return s.CancelUpload(ctx, id)
}

func (s *Web) uploadRoutes(get, post *mux.Router) {
	get.Path("/api/v1/uploads").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		list, err := s.opt.Store.OpenUploads(r.Context())
		if err != nil {
			return err
		}
		return sendJSON(w, list)
	}))
	post.Path("/api/v1/uploads/cancel").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		var q named
		if err := receive(w, r, &q); err != nil {
			return err
		}
		x, err := CancelUpload(r.Context(), s.opt.Store, q.Name)
		if err != nil {
			return operatorError(err)
		}
		s.log.InfoContext(r.Context(), "upload cancelled", "upload", x.ID, "repo", x.Repository, "bytes", x.Bytes)
		return sendJSON(w, x)
	}))
}

// NamespacesOf tells how full the namespaces are of which something is stored. Where
// no server runs their quotas are not known.
func NamespacesOf(ctx context.Context, s *storage.Store) ([]storage.NamespaceUse, error) {
	names, err := s.ContentNamespaces(ctx)
	list := []storage.NamespaceUse{}
	for _, name := range names {
		var use storage.NamespaceUse
		if err == nil {
			use, err = s.NamespaceUse(ctx, name, 0)
		}
		list = append(list, use)
	}
	return list, err
}
