package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// blobRoutes give and take single blobs: the socket is the store's owner's own.
func (s *Web) blobRoutes(m *mux.Router) {
	m.Methods(http.MethodGet, http.MethodHead).Path("/api/v1/blobs/{digest}").Handler(oci.Handler(s.getBlob))
	m.Methods(http.MethodPut).Path("/api/v1/blobs/{digest}").Handler(oci.Handler(s.putBlob))
	m.Methods(http.MethodPut).Path("/api/v1/manifests/{digest}").Handler(oci.Handler(s.putManifest))
}

func (s *Web) getBlob(w http.ResponseWriter, r *http.Request) error {
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead { // which asks whether it is here: not a reading
		row, err := s.opt.Store.Stat(r.Context(), d)
		if err != nil {
			return noBlob(d, err)
		}
		w.Header().Set("Content-Length", fmt.Sprint(row.Size))
		return nil
	}
	b, err := s.opt.Store.Open(r.Context(), d)
	if err != nil {
		return noBlob(d, err)
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(b, 0, b.Size()))
	return nil
}

func noBlob(d digest.Digest, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeBlobUnknown, Message: fmt.Sprintf("%s is not in the store", d), Err: err}
	}
	return err
}

// putBlob stores a blob, whose bytes are checked. It is durable after the next
// Store.Flush.
func (s *Web) putBlob(w http.ResponseWriter, r *http.Request) (err error) {
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	row := storage.BlobRow{Digest: d, Kind: storage.KindBlob}
	if err := asMade(r, &row); err != nil {
		return err
	}
	out, err := s.opt.Store.Create(r.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if r.ContentLength > 0 {
		if err := out.Reserve(r.Context(), r.ContentLength); err != nil {
			return noRoom(d, err)
		}
	}
	if _, err := io.Copy(out, r.Body); err != nil {
		return noRoom(d, err)
	}
	if err := out.Commit(r.Context(), row, storage.Cached); err != nil {
		return noRoom(d, err)
	}
	return nil
}

func noRoom(d digest.Digest, err error) error {
	switch {
	case errors.Is(err, storage.ErrFull):
		return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusConflict, Err: err, Message: fmt.Sprintf(
			"%s does not fit: the store is full of what may not go (storage.max_bytes, storage.min_free)", d)}
	case errors.Is(err, storage.ErrDigest):
		return &oci.Error{Code: errcode.ErrorCodeDigestInvalid, Err: err, Message: fmt.Sprintf("the bytes of %s are others than it is called by", d)}
	}
	return err
}

// putManifest stores a manifest and what it says. No repository has it yet.
func (s *Web) putManifest(w http.ResponseWriter, r *http.Request) error {
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, oci.MaxManifestBytes))
	if err != nil {
		return &oci.Error{Code: errcode.ErrorCodeManifestInvalid, Message: fmt.Sprintf("manifest %s: %v", d, err), Err: err}
	}
	m, err := oci.ParseManifest(body, r.Header.Get("Content-Type"))
	if err != nil {
		return &oci.Error{Code: errcode.ErrorCodeManifestInvalid, Message: fmt.Sprintf("manifest %s: %v", d, err), Err: err}
	}
	row, blob := storage.ManifestRow{Digest: d, Size: int64(len(body)), Manifest: *m}, storage.BlobRow{Digest: d, Kind: storage.KindManifest}
	if err := asMade(r, &blob); err != nil {
		return err
	}
	err = s.opt.Store.Put(r.Context(), blob, body, func(tx storage.Tx) error {
		if err := storage.NotBlocked(tx, d); err != nil {
			return err
		}
		return tx.PutManifest(row)
	})
	if errors.Is(err, storage.ErrBlocked) {
		return &oci.Error{Code: errcode.ErrorCodeDenied, Status: http.StatusConflict, Message: err.Error(), Err: err}
	}
	return noRoom(d, err)
}
