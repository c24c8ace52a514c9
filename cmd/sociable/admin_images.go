package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// Warm brings an image to the server's store; tell hears how far it is.
func (c *adminClient) Warm(ctx context.Context, q web.WarmRequest, tell func(web.WarmEvent)) (web.WarmImage, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/warm", q)
	if err != nil {
		return web.WarmImage{}, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e web.WarmEvent
		switch err := lines.Decode(&e); {
		case ctx.Err() != nil:
			return web.WarmImage{}, context.Cause(ctx)
		case err != nil:
			return web.WarmImage{}, fmt.Errorf("read the running server's answer: %w", err)
		case e.Error != "":
			return web.WarmImage{}, errors.New(e.Error)
		case e.Image != nil:
			return *e.Image, nil
		}
		tell(e)
	}
}

// Import files an image whose bytes were put before.
func (c *adminClient) Import(ctx context.Context, q web.ImportRequest) (x web.Imported, err error) {
	return x, c.call(ctx, http.MethodPost, "/api/v1/import", q, &x)
}

// IndexState tells how far the index of an image manifest is.
func (c *adminClient) IndexState(ctx context.Context, manifest digest.Digest) (st oci.IndexState, err error) {
	return st, c.call(ctx, http.MethodGet, "/api/v1/indexes/"+manifest.String()+"/state", nil, &st)
}

// Blob gives a blob's bytes. storage.ErrNotFound.
func (c *adminClient) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, "/api/v1/blobs/"+d.String(), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// HasBlob reports whether a blob is stored.
func (c *adminClient) HasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	resp, err := c.send(ctx, http.MethodHead, "/api/v1/blobs/"+d.String(), nil)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

// PutBlob stores a blob of size bytes, PutManifest a manifest; the server checks
// their digests.
func (c *adminClient) PutBlob(ctx context.Context, d digest.Digest, size int64, body io.Reader) error {
	return c.put(ctx, "/api/v1/blobs/"+d.String(), "application/octet-stream", size, body)
}

func (c *adminClient) PutManifest(ctx context.Context, d digest.Digest, mediaType string, body []byte) error {
	return c.put(ctx, "/api/v1/manifests/"+d.String(), mediaType, int64(len(body)), bytes.NewReader(body))
}

// PutMade stores what was made of another thing, as PutBlob does.
func (c *adminClient) PutMade(ctx context.Context, row storage.BlobRow, body io.Reader) error {
	return c.put(ctx, "/api/v1/blobs/"+row.Digest.String()+madeOf(row), "application/octet-stream", row.Size, body)
}

// PutIndex stores a SOCI index of the manifest of.
func (c *adminClient) PutIndex(ctx context.Context, d, of digest.Digest, body []byte) error {
	row := storage.BlobRow{Kind: storage.KindIndex, Of: of}
	return c.put(ctx, "/api/v1/manifests/"+d.String()+madeOf(row), v1.MediaTypeImageManifest, int64(len(body)), bytes.NewReader(body))
}

func madeOf(row storage.BlobRow) string {
	return "?" + url.Values{"kind": {string(row.Kind)}, "of": {row.Of.String()}}.Encode()
}

// Spans gives the file of spans that begins with front.
func (c *adminClient) Spans(ctx context.Context, front *bundle.Spans) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/spans", front)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Trust asks whether the server trusts the key of a signature. An error says that
// the signature is not by it.
func (c *adminClient) Trust(ctx context.Context, sig *bundle.Signature) (t web.Trust, err error) {
	return t, c.call(ctx, http.MethodPost, "/api/v1/import/trust", sig, &t)
}

func (c *adminClient) put(ctx context.Context, path, mediaType string, size int64, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://sociable"+path, body)
	if err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := c.http.Do(req)
	if ue, ok := errors.AsType[*url.Error](err); ok && errors.Is(err, bundle.ErrBundle) {
		return ue.Err // it broke off on this side
	}
	if err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answerError(resp)
	}
	return nil
}

// Missing lists what clients asked for in vain.
func (c *adminClient) Missing(ctx context.Context) (list []web.MissingThing, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/missing", nil, &list)
}
