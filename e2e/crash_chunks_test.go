package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// chunked is one upload in chunks, which goes on after each kill where it was.
type chunked struct {
	number   uint64
	body     []byte
	location string // "" while it has not begun
	acked    int    // bytes that a 202 was received for
	ending   bool   // the closing PUT was sent
	resumed  int    // how often it went on, over all uploads
}

const (
	chunkedSize = 2 << 20
	chunkSize   = 48 << 10
)

// ask sends a request about the upload; ok is false when the process was killed.
func (c *crashes) ask(ctx context.Context, t *testing.T, method, path string, body []byte, header ...string) (resp *http.Response, ok bool) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.Addr+path, bytes.NewReader(body))
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return nil, false
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if resp, err = client.Do(req); err != nil {
		return nil, false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err == nil
}

// pushChunks goes on with the upload of the last time, and begins others, until the
// process or the context ends. What was acknowledged has to be there.
func (c *crashes) pushChunks(ctx context.Context, t *testing.T) {
	u := &c.chunks
	if u.location != "" && !c.takeUp(ctx, t) {
		return
	}
	for ctx.Err() == nil {
		if u.location == "" {
			u.number++
			u.body, u.acked, u.ending = make([]byte, chunkedSize), 0, false
			_, _ = rand.NewChaCha8([32]byte{byte(u.number), byte(u.number >> 8), 9}).Read(u.body)
			resp, ok := c.ask(ctx, t, http.MethodPost, "/v2/local/chunks/blobs/uploads/", nil)
			if !ok {
				return
			}
			u.location = resp.Header.Get("Location")
		}
		if u.acked == len(u.body) {
			if !c.endChunks(ctx, t) {
				return
			}
			continue
		}
		end := min(u.acked+chunkSize, len(u.body))
		resp, ok := c.ask(ctx, t, http.MethodPatch, u.location, u.body[u.acked:end], "Content-Range", fmt.Sprintf("%d-%d", u.acked, end-1))
		if !ok {
			return
		}
		if resp.StatusCode != http.StatusAccepted {
			t.Errorf("chunk at %d of upload %d: %s", u.acked, u.number, resp.Status)
			return
		}
		u.acked, u.location = end, resp.Header.Get("Location")
	}
}

func (c *crashes) endChunks(ctx context.Context, t *testing.T) bool {
	u := &c.chunks
	u.ending = true
	resp, ok := c.ask(ctx, t, http.MethodPut, u.location+"?digest="+digest.FromBytes(u.body).String(), nil)
	if ok && resp.StatusCode != http.StatusCreated {
		t.Errorf("end of upload %d: %s", u.number, resp.Status)
		return false
	}
	if ok {
		c.chunksDone()
	}
	return ok
}

func (c *crashes) chunksDone() {
	d := digest.FromBytes(c.chunks.body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushed = append(c.pushed, item{"/v2/local/chunks/blobs/" + d.String(), d})
	c.chunks.location = ""
}

// takeUp asks how far the upload is after a restart.
func (c *crashes) takeUp(ctx context.Context, t *testing.T) bool {
	u := &c.chunks
	resp, ok := c.ask(ctx, t, http.MethodGet, u.location, nil)
	switch {
	case !ok:
		return false
	case resp.StatusCode == http.StatusNotFound && u.ending: // the answer alone was lost, or else the blob is
		c.chunksDone()
		return true
	case resp.StatusCode != http.StatusNoContent:
		t.Errorf("upload %d after a kill, with %d bytes acknowledged: %s", u.number, u.acked, resp.Status)
		return false
	}
	var last int
	if _, err := fmt.Sscanf(strings.TrimPrefix(resp.Header.Get("Range"), "0-"), "%d", &last); err != nil || last+1 < u.acked {
		t.Errorf("upload %d after a kill: Range %q, and %d bytes were acknowledged", u.number, resp.Header.Get("Range"), u.acked)
		return false
	}
	if last > 0 { // "0-0" stands for nothing, too
		u.acked = last + 1
	}
	u.resumed++
	return true
}
