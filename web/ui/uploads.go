package ui

import (
	"context"
	"net/http"
	"slices"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// namespaces tells how full the hosted namespaces are.
func (u *UI) namespaces(ctx context.Context) ([]storage.NamespaceUse, error) {
	if u.opt.Namespaces == nil {
		return []storage.NamespaceUse{}, nil
	}
	return u.opt.Namespaces(ctx)
}

// cancelUpload ends the upload that the body names.
func (u *UI) cancelUpload(r *http.Request) (*storage.UploadInfo, error) {
	var q UploadID
	if err := receive(r, &q); err != nil {
		return nil, err
	}
	if q.ID == "" {
		return nil, bad("name the upload by its id")
	}
	x, err := web.CancelUpload(r.Context(), u.opt.Store, q.ID)
	if err != nil {
		return nil, web.OperatorError(err)
	}
	u.log.InfoContext(r.Context(), "upload cancelled", "upload", x.ID, "repo", x.Repository, "bytes", x.Bytes)
	return &x, nil
}

// UploadID is the body of requests about one upload.
type UploadID struct {
	ID string `json:"id"` // as the list has it
}

// Uploading are the uploads that are open, to upstreams too.
type Uploading struct {
	Uploads int   `json:"uploads"`
	Bytes   int64 `json:"bytes"` // that have come
}

// HostedShown are those namespaces of which there is something to say.
func (o *Overview) HostedShown() []storage.NamespaceUse {
	return slices.DeleteFunc(slices.Clone(o.Hosted), func(x storage.NamespaceUse) bool { return x.Bytes+x.UploadBytes+x.Quota == 0 })
}
