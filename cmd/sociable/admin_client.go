package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// adminClient speaks to a running server over its unix socket.
type adminClient struct{ http *http.Client }

func newAdminClient(socket string) *adminClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &adminClient{&http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute}}
}

func (c *adminClient) Indexes(ctx context.Context) (list []IndexInfo, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/indexes", nil, &list)
}

func (c *adminClient) Index(ctx context.Context, manifest digest.Digest) (x IndexInfo, err error) {
	return x, c.call(ctx, http.MethodGet, "/api/v1/indexes/"+manifest.String(), nil, &x)
}

func (c *adminClient) Purge(ctx context.Context, d digest.Digest) (int64, error) {
	var out struct {
		Freed int64 `json:"freed"`
	}
	err := c.call(ctx, http.MethodPost, "/api/v1/purge", map[string]string{"digest": d.String()}, &out)
	return out.Freed, err
}

func (c *adminClient) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// call sends in as JSON, where it is not nil, and decodes the answer into out.
func (c *adminClient) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("ask the running server: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sociable"+path, &body)
	if err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answerError(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the running server's answer: %w", err)
	}
	return nil
}

// answerError turns an answer other than 200 into an error.
func answerError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 8<<10)) // whatever came of it will do
	var doc struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	msg := strings.TrimSpace(string(text))
	if json.Unmarshal(text, &doc) == nil && len(doc.Errors) > 0 {
		msg = doc.Errors[0].Message
	}
	if msg == "" {
		msg = resp.Status
	}
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s: %w", msg, storage.ErrNotFound)
	}
	return fmt.Errorf("the running server answered %d: %s", resp.StatusCode, msg)
}
