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

	"github.com/opencontainers/go-digest"

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
	target *url.URL                      // instead of all that, at the endpoint only
	body   func() (io.ReadCloser, error) // nil: none
	length int64                         // of the body; 0 while unknown
	avoid  *endpoint                     // asked last: it has just failed at this; nil: none
	only   *endpoint                     // nobody else can answer this; nil: any can
	held   time.Duration                 // waited for holds to end, since the last answer
}

// answer is a response of which the headers have come. Its Read is watched: it
// fails when no byte comes for Options.StallTimeout. Close, which every answer
// needs, drops the rest of the body without reading it.
type answer struct {
	*http.Response
	c     *Client
	e     *endpoint
	op    op
	ctx   context.Context // ends with the answer
	end   context.CancelCauseFunc
	stall *time.Timer // runs within Read only
	whole *time.Timer // ends it, see hurry; nil: nothing does
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

// read asks like do and reads the whole body, which may have limit bytes. The
// answer that it came with is closed.
//
//nolint:unparam // that all limits are the same is chance
func (c *Client) read(ctx context.Context, q *request, limit int64) (body []byte, from *answer, err error) {
	err = c.retry(ctx, q, func() error {
		a, err := c.ask(ctx, q)
		if err != nil {
			return err
		}
		defer a.Close()
		from = a
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
	return body, from, err
}

// ask asks the endpoints one after the other until one has what is wanted. That
// none has it says the upstream itself, which its mirrors only stand in for.
func (c *Client) ask(ctx context.Context, q *request) (a *answer, err error) {
	if c.opt.Offline {
		return nil, fmt.Errorf("upstream %s: %w", c.opt.Name, ErrOffline)
	}
	ends := c.order(ctx, q)
	var verdict error // of the upstream itself
	for i, e := range ends {
		last := i == len(ends)-1
		if a, err = e.ask(ctx, q, last); err == nil || ctx.Err() != nil {
			return a, err
		}
		if e == c.ends[len(c.ends)-1] || verdict == nil && last {
			verdict = err
		}
		if !last {
			c.metrics.failovers.Inc()
			c.log.DebugContext(ctx, "asking the next endpoint", "repo", q.repo, "op", string(q.op), "endpoint", e.root.Host, "err", err)
		}
	}
	return nil, verdict
}

// acquire takes a slot for one request, and one of the bulk first.
func (c *Client) acquire(ctx context.Context, bulk bool) (free func(), err error) {
	if bulk {
		if err := c.bulk.take(ctx); err != nil {
			return nil, err
		}
	}
	release := func() {
		if bulk {
			c.bulk.free()
		}
	}
	if err := c.all.take(ctx); err != nil {
		release()
		return nil, err
	}
	return func() { c.all.free(); release() }, nil
}

func (a *answer) Read(p []byte) (int, error) {
	a.stall.Reset(a.c.opt.StallTimeout)
	n, err := a.Body.Read(p)
	a.stall.Stop()
	a.c.metrics.bytes.Add(float64(n))
	if berr := a.c.budget.spend(a.ctx, n, a.op == opBlob); berr != nil && err == nil {
		err = berr
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = unreachable(a.c.opt.Name, a.op, a.cause(err))
	}
	return n, err
}

// Close ends the answer; see answer. It may be called more than once.
func (a *answer) Close() {
	a.once.Do(func() {
		a.end(context.Canceled)
		if a.whole != nil {
			a.whole.Stop()
		}
		if a.Response != nil {
			_ = a.Body.Close() // it was only read
		}
		a.free()
	})
}

// hurry gives the rest of an answer that is not worth waiting for as long as its
// headers had: it could come byte by byte.
func (a *answer) hurry() {
	a.whole = time.AfterFunc(a.c.opt.HeaderTimeout, func() { a.end(errStalled) })
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
	if is[*StatusError](err) || is[*ProtocolError](err) || is[*UnreachableError](err) || is[*HeldError](err) {
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
		elsewhere:  hostPort(a.Request.URL) != a.e.guard.host,
		spent:      limitSpent(a.Header),
		window:     limitWindow(a.Header),
	}
	var doc struct {
		Errors []struct {
			Code, Message string
			Detail        json.RawMessage
		}
	}
	a.hurry()
	body, _ := io.ReadAll(io.LimitReader(a, maxErrorBody)) // what came of it is enough
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		s.setBody(doc.Errors[0].Code, doc.Errors[0].Message)
		s.Digest = digest.Digest(digest.DigestRegexp.Find(doc.Errors[0].Detail))
		if s.Digest.Validate() != nil {
			s.Digest = ""
		}
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
