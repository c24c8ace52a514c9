package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// PushBlob sends a blob to repo (distribution specification, "Pushing blobs").
// open gives its bytes from the first, as often as it is called, as they come; d
// its digest, once they came to their end. The upstream compares the two.
func (c *Client) PushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error {
	if err := oci.CheckName(repo); err != nil {
		return fmt.Errorf("push a blob: %w", err)
	}
	err := c.retry(ctx, &request{op: opPushBlob, repo: repo}, func() error { return c.pushBlob(ctx, repo, open, d) })
	if err != nil {
		return fmt.Errorf("push a blob to %s: %w", repo, err)
	}
	return nil
}

func (c *Client) pushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error {
	begin := &request{op: opPushBlob, method: http.MethodPost, repo: repo, path: "blobs/uploads/"}
	where, err := c.step(ctx, begin, nil)
	if err != nil {
		return err
	}
	where.body = open
	where.method, where.header = http.MethodPatch, http.Header{"Content-Type": {"application/octet-stream"}}
	if where, err = c.step(ctx, where, where.only); err != nil {
		return err
	}
	q := where.target.Query()
	q.Set("digest", d().String())
	where.target.RawQuery, where.method = q.Encode(), http.MethodPut
	_, err = c.step(ctx, where, where.only)
	return err
}

// step sends one request of an upload, and gives the one that goes on with it at
// the same endpoint.
func (c *Client) step(ctx context.Context, q *request, at *endpoint) (next *request, err error) {
	q.only = at
	a, err := c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	next = &request{op: q.op, repo: q.repo, only: a.e}
	if q.method == http.MethodPut {
		return next, nil
	}
	if next.target, err = a.Request.URL.Parse(a.Header.Get("Location")); err != nil || a.Header.Get("Location") == "" {
		return nil, &ProtocolError{Upstream: c.opt.Name, Op: string(q.op), Reason: "the answer does not say where to go on"}
	}
	if !a.e.at(next.target) { // nor where a redirect led: nobody there is to see what the registry is sent
		return nil, &ProtocolError{Upstream: c.opt.Name, Op: string(q.op), Reason: "the upload goes on at another host"}
	}
	return next, nil
}

// MountBlob has repo have what the repository from has. false: it has to be sent.
func (c *Client) MountBlob(ctx context.Context, repo, from string, d digest.Digest) (bool, error) {
	for _, name := range []string{repo, from} {
		if err := oci.CheckName(name); err != nil {
			return false, fmt.Errorf("mount %s: %w", d, err)
		}
	}
	a, err := c.do(ctx, &request{
		op: opMountBlob, method: http.MethodPost, repo: repo, path: "blobs/uploads/",
		query: url.Values{"mount": {d.String()}, "from": {from}},
	})
	if err != nil {
		return false, fmt.Errorf("mount %s of %s in %s: %w", d, from, repo, err)
	}
	a.Close()
	return a.StatusCode == http.StatusCreated, nil
}

// PushManifest sends a manifest under ref ("Pushing Manifests"). subject is the
// digest that the upstream lists it as a referrer of; "" where it does not.
func (c *Client) PushManifest(ctx context.Context, repo string, ref oci.Reference, mediaType string, body []byte) (subject string, err error) {
	q, err := manifestRequest(opPushManifest, http.MethodPut, repo, ref)
	if err != nil {
		return "", err
	}
	q.header = http.Header{"Content-Type": {mediaType}}
	q.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	q.length = int64(len(body))
	a, err := c.do(ctx, q)
	if err != nil {
		return "", fmt.Errorf("push manifest %s to %s: %w", ref, repo, err)
	}
	a.Close()
	return a.Header.Get("OCI-Subject"), nil
}

// DeleteManifest deletes a tag, or a manifest ("Deleting Manifests").
func (c *Client) DeleteManifest(ctx context.Context, repo string, ref oci.Reference) error {
	q, err := manifestRequest(opDeleteManifest, http.MethodDelete, repo, ref)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, q)
	if err != nil {
		return fmt.Errorf("delete %s of %s: %w", ref, repo, err)
	}
	a.Close()
	return nil
}

// sending gives a request its body. onRead is called as it is read.
func (q *request) sending(req *http.Request, onRead func()) error {
	if q.body == nil {
		return nil
	}
	body, err := q.body()
	if err != nil {
		return fmt.Errorf("open what is to be sent: %w", err)
	}
	req.Body, req.ContentLength = &watched{body, onRead}, q.length
	if q.length == 0 {
		req.ContentLength = -1
	}
	return nil
}

// watched tells when it is read.
type watched struct {
	io.ReadCloser
	onRead func()
}

func (w *watched) Read(p []byte) (int, error) {
	w.onRead()
	n, err := w.ReadCloser.Read(p)
	w.onRead()
	return n, err
}
