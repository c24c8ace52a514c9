package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// adminClient speaks to a running server over its unix socket.
type adminClient struct{ http *http.Client }

func newAdminClient(socket string) *adminClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialSocket(ctx, socket)
	}
	return &adminClient{&http.Client{Transport: &http.Transport{DialContext: dial}}}
}

func (c *adminClient) Indexes(ctx context.Context) (list []IndexInfo, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/indexes", nil, &list)
}

func (c *adminClient) Index(ctx context.Context, manifest digest.Digest) (x IndexInfo, err error) {
	return x, c.call(ctx, http.MethodGet, "/api/v1/indexes/"+manifest.String(), nil, &x)
}

func (c *adminClient) Facts(ctx context.Context, name string) (f web.Facts, err error) {
	return f, c.call(ctx, http.MethodGet, "/api/v1/image?name="+url.QueryEscape(name), nil, &f)
}

func (c *adminClient) Stats(ctx context.Context, name string) (s web.Stats, err error) {
	return s, c.call(ctx, http.MethodGet, "/api/v1/stats?name="+url.QueryEscape(name), nil, &s)
}

func (c *adminClient) Purge(ctx context.Context, q purgeQuery) (p web.Purged, err error) {
	return p, c.call(ctx, http.MethodPost, "/api/v1/purge", q.PurgeRequest, &p)
}

func (c *adminClient) Unblock(ctx context.Context, name string) (ds []digest.Digest, err error) {
	return ds, c.call(ctx, http.MethodPost, "/api/v1/unblock", byName(name), &ds)
}

func (c *adminClient) Blocks(ctx context.Context) (list []storage.BlockRow, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/blocks", nil, &list)
}

func (c *adminClient) Refresh(ctx context.Context, name string) (t web.Tag, err error) {
	return t, c.call(ctx, http.MethodPost, "/api/v1/refresh", byName(name), &t)
}

func (c *adminClient) Pin(ctx context.Context, name string) (p web.Pin, err error) {
	return p, c.call(ctx, http.MethodPost, "/api/v1/pin", byName(name), &p)
}

func (c *adminClient) Unpin(ctx context.Context, name string) (p web.Pin, err error) {
	return p, c.call(ctx, http.MethodPost, "/api/v1/unpin", byName(name), &p)
}

func (c *adminClient) Jobs(ctx context.Context) (list []web.Job, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/jobs", nil, &list)
}

func (c *adminClient) RetryJob(ctx context.Context, id string) (int, error) {
	return c.changeJobs(ctx, "retry", id)
}

func (c *adminClient) CancelJob(ctx context.Context, id string) (int, error) {
	return c.changeJobs(ctx, "cancel", id)
}

func (c *adminClient) ClearJob(ctx context.Context, id string) (int, error) {
	return c.changeJobs(ctx, "clear", id)
}

func (c *adminClient) changeJobs(ctx context.Context, how, id string) (int, error) {
	var n struct {
		Jobs int `json:"jobs"`
	}
	err := c.call(ctx, http.MethodPost, "/api/v1/jobs/"+how, byName(id), &n)
	return n.Jobs, err
}

func (c *adminClient) WithdrawIndex(ctx context.Context, name string) (x web.Withdrawn, err error) {
	return x, c.call(ctx, http.MethodPost, "/api/v1/indexes/withdraw", byName(name), &x)
}

func (c *adminClient) Uploads(ctx context.Context) (list []storage.UploadInfo, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/uploads", nil, &list)
}

func (c *adminClient) CancelUpload(ctx context.Context, id string) (x storage.UploadInfo, err error) {
	return x, c.call(ctx, http.MethodPost, "/api/v1/uploads/cancel", byName(id), &x)
}

func (c *adminClient) Pins(ctx context.Context) (list []web.Pin, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/pins", nil, &list)
}

func byName(name string) map[string]string { return map[string]string{"name": name} }

// Check reads the answer as it comes, however long that takes.
func (c *adminClient) Check(ctx context.Context, q web.CheckRequest, tell func(web.CheckEvent)) (storage.CheckReport, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/check", q)
	if err != nil {
		return storage.CheckReport{}, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e web.CheckEvent
		err := lines.Decode(&e)
		switch {
		case err != nil:
			return storage.CheckReport{}, fmt.Errorf("read the running server's answer: %w", err)
		case e.Report == nil:
			tell(e)
		case e.Error != "":
			return *e.Report, errors.New(e.Error)
		default:
			return *e.Report, nil
		}
	}
}

// Collect reads the answer as it comes, however long that takes.
func (c *adminClient) Collect(ctx context.Context, q collectQuery, found func(storage.Collected)) (storage.CollectReport, error) {
	in := web.GCRequest{DryRun: q.DryRun}
	if q.Grace != nil {
		seconds := q.Grace.Seconds()
		in.GraceSeconds = &seconds
	}
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/gc", in)
	if err != nil {
		return storage.CollectReport{}, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e web.GCEvent
		err := lines.Decode(&e)
		switch {
		case err != nil:
			return storage.CollectReport{}, fmt.Errorf("read the running server's answer: %w", err)
		case e.Collected != nil:
			found(*e.Collected)
		case e.Report != nil && e.Error != "":
			return *e.Report, errors.New(e.Error)
		case e.Report != nil:
			return *e.Report, nil
		}
	}
}

func (c *adminClient) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// callTimeout bounds all but a check: to go through all rows may take a while.
const callTimeout = 5 * time.Minute

// call sends in as JSON, where it is not nil, and decodes the answer into out.
func (c *adminClient) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the running server's answer: %w", err)
	}
	return nil
}

// send gives the answer, if it is 200.
func (c *adminClient) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, fmt.Errorf("ask the running server: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sociable"+path, &body)
	if err != nil {
		return nil, fmt.Errorf("ask the running server: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the running server: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, answerError(resp)
	}
	return resp, nil
}

// notThere is what the server says is not there: storage.ErrNotFound in its words.
type notThere string

func (e notThere) Error() string { return string(e) }

func (notThere) Is(target error) bool { return target == storage.ErrNotFound }

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
	switch resp.StatusCode {
	case http.StatusNotFound:
		return notThere(msg)
	case http.StatusBadRequest, http.StatusConflict:
		return errors.New(msg) // as the command would say it without a server
	}
	return fmt.Errorf("the running server answered %d: %s", resp.StatusCode, msg)
}
