package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sociable/sociable/internal/oci"
)

var (
	errStalled   = errors.New("no byte for too long")
	errNoHeaders = errors.New("no answer for too long")
	errShort     = errors.New("the body ends early")
)

// request is one question to the upstream, safe to be asked again.
type request struct {
	op     op
	method string
	repo   string
	path   string // behind /v2/<repo>/
	query  url.Values
	header http.Header
}

// answer is a response of which the headers have come. Its Read is watched: it
// fails when no byte comes for Options.StallTimeout. Close, which every answer
// needs, drops the rest of the body without reading it.
type answer struct {
	*http.Response
	c     *Client
	op    op
	ctx   context.Context // ends with the answer
	end   context.CancelCauseFunc
	stall *time.Timer // runs within Read only
	free  func()      // gives the slot back
	once  sync.Once
}

// do asks until there is an answer of status 2xx, within the bounds of
// Options.Retries.
func (c *Client) do(ctx context.Context, q *request) (a *answer, err error) {
	err = c.retry(ctx, q, func() error {
		a, err = c.ask(ctx, q)
		return err
	})
	return a, err
}

func (c *Client) retry(ctx context.Context, q *request, try func() error) error {
	r := &retrier{c: c, op: q.op, repo: q.repo}
	for {
		err := try()
		if err == nil {
			return nil
		}
		if err = r.again(ctx, err); err != nil {
			return err
		}
	}
}

// read asks like do and reads the whole body, which may have limit bytes.
func (c *Client) read(ctx context.Context, q *request, limit int64) (body []byte, resp *http.Response, err error) {
	err = c.retry(ctx, q, func() error {
		a, err := c.ask(ctx, q)
		if err != nil {
			return err
		}
		defer a.Close()
		resp = a.Response
		if a.ContentLength <= limit {
			body, err = io.ReadAll(io.LimitReader(a, limit+1))
			if err != nil {
				return err
			}
		}
		if n := max(a.ContentLength, int64(len(body))); n > limit {
			return &ProtocolError{
				Upstream: c.opt.Name, Op: string(q.op),
				Reason: fmt.Sprintf("more than %d bytes", limit),
			}
		}
		return nil
	})
	return body, resp, err
}

// ask sends q once, or twice when the upstream wants to be asked otherwise.
func (c *Client) ask(ctx context.Context, q *request) (*answer, error) {
	g, err := c.auth.authorize(ctx, q.repo)
	if err != nil {
		return nil, c.askErr(ctx, q, err)
	}
	a, err := c.send(ctx, q, g)
	if err != nil {
		return nil, err
	}
	if a.StatusCode == http.StatusUnauthorized && hostPort(a.Request.URL) == c.guard.host {
		g, ok, err := c.auth.reauthorize(ctx, q.repo, g, a.Header)
		if err != nil {
			a.Close()
			return nil, c.askErr(ctx, q, err)
		}
		if ok {
			_, _ = io.CopyN(io.Discard, a, maxErrorBody) // to its end, the connection can be used again
			a.Close()
			if a, err = c.send(ctx, q, g); err != nil {
				return nil, err
			}
		}
	}
	if a.StatusCode/100 == 2 {
		return a, nil
	}
	defer a.Close()
	return nil, a.refusal(q)
}

// send sends q once and waits for the headers of the answer.
func (c *Client) send(ctx context.Context, q *request, g grant) (*answer, error) {
	free, err := c.acquire(ctx, q.op == opBlob)
	if err != nil {
		return nil, c.left(err, q.op)
	}
	rctx, end := context.WithCancelCause(ctx)
	a := &answer{c: c, op: q.op, ctx: rctx, end: end, free: free}
	req, err := c.newRequest(rctx, q, g)
	if err != nil {
		a.Close()
		return nil, err
	}
	headers := time.AfterFunc(c.opt.HeaderTimeout, func() { end(errNoHeaders) })
	start := time.Now()
	a.Response, err = c.http.Do(req)
	if err == nil && !headers.Stop() {
		err = errNoHeaders
	}
	if err != nil {
		headers.Stop()
		err = c.askErr(ctx, q, a.cause(err))
		a.Close()
		c.metrics.failed(q.op, ctx.Err() != nil)
		if errors.Is(err, errNoHeaders) {
			c.transport.CloseIdleConnections() // the others may be as dead
		}
		return nil, err
	}
	c.metrics.answered(q.op, a.StatusCode, start)
	a.stall = time.AfterFunc(c.opt.StallTimeout, func() { end(errStalled) })
	a.stall.Stop()
	return a, nil
}

func (c *Client) newRequest(ctx context.Context, q *request, g grant) (*http.Request, error) {
	u := c.root
	u.Path = "/v2/" + q.repo + "/" + q.path
	u.RawQuery = q.query.Encode()
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if g.header != "" {
		req.Header.Set("Authorization", g.header)
	}
	return req, nil
}

// acquire takes a slot for one request, and one of the bulk first.
func (c *Client) acquire(ctx context.Context, bulk bool) (free func(), err error) {
	if bulk {
		select {
		case c.bulk <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	release := func() {
		if bulk {
			<-c.bulk
		}
	}
	select {
	case c.all <- struct{}{}:
		return func() { <-c.all; release() }, nil
	case <-ctx.Done():
		release()
		return nil, context.Cause(ctx)
	}
}

func (a *answer) Read(p []byte) (int, error) {
	a.stall.Reset(a.c.opt.StallTimeout)
	n, err := a.Body.Read(p)
	a.stall.Stop()
	a.c.metrics.bytes.Add(float64(n))
	if err != nil && err != io.EOF {
		err = unreachable(a.c.opt.Name, a.op, a.cause(err))
	}
	return n, err
}

// Close ends the answer; see answer. It may be called more than once.
func (a *answer) Close() {
	a.once.Do(func() {
		a.end(context.Canceled)
		if a.Response != nil {
			_ = a.Body.Close() // it was only read
		}
		a.free()
	})
}

// cause is why err came to be, where that was our own doing.
func (a *answer) cause(err error) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return err
}

// askErr gives a failure without an answer its type.
func (c *Client) askErr(ctx context.Context, q *request, err error) error {
	if ctx.Err() != nil {
		return c.left(context.Cause(ctx), q.op)
	}
	if p, ok := errors.AsType[*PolicyError](err); ok {
		return p // without the URL that net/http puts in front
	}
	if is[*StatusError](err) || is[*ProtocolError](err) || is[*UnreachableError](err) {
		return err
	}
	return unreachable(c.opt.Name, q.op, err)
}

// left is the error of a caller who waits no more: one whose deadline passed
// finds the upstream unreachable.
func (c *Client) left(cause error, o op) error {
	if errors.Is(cause, context.DeadlineExceeded) {
		return unreachable(c.opt.Name, o, cause)
	}
	return fmt.Errorf("ask upstream %s for %s: %w", c.opt.Name, o, cause)
}

// unreachable wraps a failure of the network, without URLs: their queries may
// hold signatures.
func unreachable(upstream string, o op, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // nobody may take it for a good end
	}
	return &UnreachableError{Upstream: upstream, Op: string(o), Err: err}
}

const (
	maxErrorBody    = 8 << 10
	maxErrorMessage = 256
)

// refusal reads what an answer outside 2xx says, as far as it is worth reading.
func (a *answer) refusal(q *request) error {
	s := &StatusError{
		Upstream: a.c.opt.Name, Op: string(q.op), Status: a.StatusCode,
		Code:       inventCode(q.op, a.StatusCode),
		RetryAfter: parseRetryAfter(a.Header.Get("Retry-After"), time.Now()),
		elsewhere:  hostPort(a.Request.URL) != a.c.guard.host,
	}
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	body, _ := io.ReadAll(io.LimitReader(a, maxErrorBody)) // what came of it is enough
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		s.setBody(doc.Errors[0].Code, doc.Errors[0].Message)
	}
	if a.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		_, size, err := oci.ParseContentRange(a.Header.Get("Content-Range"))
		if err != nil {
			size = -1
		}
		return &RangeError{Size: size, Err: s}
	}
	return s
}

// setBody takes over what an error body says, within bounds.
func (e *StatusError) setBody(code, message string) {
	isCode := code != "" && len(code) <= 64
	for _, r := range code {
		isCode = isCode && (r == '_' || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9'))
	}
	if isCode {
		e.Code = code
	}
	if len(message) > maxErrorMessage {
		message = message[:maxErrorMessage]
	}
	e.Message = strings.ToValidUTF8(message, string(utf8.RuneError))
}

// inventCode is the specification's code for a status that came without one, as
// with every HEAD.
func inventCode(o op, status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "UNAUTHORIZED"
	case status == http.StatusForbidden:
		return "DENIED"
	case status == http.StatusTooManyRequests:
		return "TOOMANYREQUESTS"
	case status == http.StatusNotFound && (o == opBlob || o == opHeadBlob):
		return "BLOB_UNKNOWN"
	case status == http.StatusNotFound && (o == opManifest || o == opHeadManifest):
		return "MANIFEST_UNKNOWN"
	case status == http.StatusNotFound && o == opTags:
		return "NAME_UNKNOWN"
	case status == http.StatusMethodNotAllowed:
		return "UNSUPPORTED"
	case status >= 500:
		return "UNAVAILABLE"
	default:
		return "UNKNOWN"
	}
}
