package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// endpoint is one address at which an upstream can be asked.
type endpoint struct {
	c      *Client
	root   url.URL
	prefix string // before the names of repositories; "", or ends with a slash
	log    *slog.Logger

	transports [2]*http.Transport // to the endpoint's host, and to all others
	guard      *guard             // in front of them
	http       *http.Client
	auth       *authorizer
	gate       *gate
	rate       *pace // of requests
}

func newEndpoint(c *Client, o Options, m *endpointMetrics) *endpoint {
	e := &endpoint{
		c: c, root: url.URL{Scheme: o.URL.Scheme, Host: o.URL.Host}, log: c.log.With("endpoint", o.URL.Host),
		rate: newPace(o.RequestsPerMinute),
	}
	if prefix := strings.Trim(o.URL.Path, "/"); prefix != "" {
		e.prefix = prefix + "/"
	}
	e.guard = newGuard(o)
	// What the operator knows of the endpoint holds for nobody whom it leads us to.
	others := o
	others.Certificates, others.InsecureSkipVerify = nil, false
	e.transports = [...]*http.Transport{newTransport(o, e.guard), newTransport(others, e.guard)}
	e.guard.base, e.guard.others = e.transports[0], e.transports[1]
	rt := http.RoundTripper(e.guard)
	if o.Wrap != nil {
		rt = o.Wrap(rt)
	}
	e.http = &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return nil }, // the guard's task
	}
	e.auth = newAuthorizer(o, rt, c.metrics)
	e.gate = newGate(o, e.log, m)
	return e
}

func (e *endpoint) closeIdle() {
	for _, t := range e.transports {
		t.CloseIdleConnections()
	}
}

// order is in which order the endpoints are asked q: those that are in trouble
// after the others.
func (c *Client) order(ctx context.Context, q *request) []*endpoint {
	if q.only != nil {
		return []*endpoint{q.only}
	}
	if k, ok := ctx.Value(callerKey{}).(*Caller); ok && k.e.c == c {
		return []*endpoint{k.e} // a mirror can't say what a caller may read
	}
	if len(c.ends) == 1 {
		return c.ends
	}
	rank := func(e *endpoint) int {
		switch {
		case e == q.avoid, c.senders.wrong(q.path, e):
			return 2
		case e.gate.closed(), e.gate.inDoubt():
			return 1
		default:
			return 0
		}
	}
	ends := slices.Clone(c.ends)
	slices.SortStableFunc(ends, func(a, b *endpoint) int { return rank(a) - rank(b) })
	return ends
}

// ask sends q once, or twice when the endpoint wants to be asked otherwise.
// patient waits for an endpoint that is held back for a moment.
func (e *endpoint) ask(ctx context.Context, q *request, patient bool) (a *answer, err error) {
	k := e.caller(ctx)
	if err := k.wait(ctx, patient, &q.held); err != nil {
		return nil, e.c.askErr(ctx, q, err)
	}
	done, err := e.gate.enter(ctx, patient, &q.held)
	if err != nil {
		return nil, e.c.askErr(ctx, q, err)
	}
	start := time.Now()
	defer func() { done(ctx, start, k.judge(ctx, start, err)) }()
	repo := e.prefix + q.repo
	auth := e.asker(ctx)
	g, err := auth.authorize(ctx, repo, q.op.pushes())
	if err != nil {
		return nil, e.c.askErr(ctx, q, err)
	}
	a, err = e.send(ctx, q, g)
	if err != nil {
		return nil, err
	}
	if a.StatusCode == http.StatusUnauthorized && hostPort(a.Request.URL) == e.guard.host {
		g, ok, err := auth.reauthorize(ctx, repo, q.op.pushes(), g, a.Header)
		if err != nil {
			a.Close()
			return nil, e.c.askErr(ctx, q, err)
		}
		if ok {
			a.hurry()
			_, _ = io.CopyN(io.Discard, a, maxErrorBody) // to its end, the connection can be used again
			a.Close()
			if a, err = e.send(ctx, q, g); err != nil {
				return nil, err
			}
		}
	}
	if a.StatusCode/100 == 2 {
		q.held = 0
		return a, nil
	}
	defer a.Close()
	return nil, a.refusal(q)
}

// send sends q once and waits for the headers of the answer.
func (e *endpoint) send(ctx context.Context, q *request, g grant) (*answer, error) {
	c := e.c
	if err := e.rate.wait(ctx, q.op == opBlob, c.opt.HeaderTimeout); err != nil {
		if h, ok := errors.AsType[*HeldError](err); ok {
			h.Upstream = c.opt.Name
			c.metrics.held.Inc()
			return nil, h
		}
		return nil, c.left(err, q.op)
	}
	free, err := c.acquire(ctx, q.op == opBlob)
	if err != nil {
		return nil, c.left(err, q.op)
	}
	rctx, end := context.WithCancelCause(ctx)
	a := &answer{c: c, e: e, op: q.op, ctx: rctx, end: end, free: free}
	req, err := e.newRequest(rctx, q, g)
	if err != nil {
		a.Close()
		return nil, err
	}
	headers := time.AfterFunc(c.opt.HeaderTimeout, func() { end(errNoHeaders) })
	if err := q.sending(req, func() { headers.Reset(c.opt.HeaderTimeout) }); err != nil {
		headers.Stop()
		a.Close()
		return nil, err
	}
	start := time.Now()
	a.Response, err = e.http.Do(req) //nolint:bodyclose // answer.Close does
	if err == nil && !headers.Stop() {
		err = errNoHeaders
	}
	if err != nil {
		headers.Stop()
		err = c.askErr(ctx, q, a.cause(err))
		a.Close()
		c.metrics.failed(q.op, ctx.Err() != nil)
		if errors.Is(err, errNoHeaders) {
			e.closeIdle() // the others may be as dead
		}
		return nil, err
	}
	c.metrics.answered(q.op, a.StatusCode, start)
	e.gate.metrics.rateLimit(a.Header)
	a.stall = time.AfterFunc(c.opt.StallTimeout, func() { end(errStalled) })
	a.stall.Stop()
	return a, nil
}

// at reports whether u is at the endpoint itself.
func (e *endpoint) at(u *url.URL) bool {
	return u.Scheme == e.root.Scheme && hostPort(u) == hostPort(&e.root)
}

func (e *endpoint) newRequest(ctx context.Context, q *request, g grant) (*http.Request, error) {
	u := e.root
	u.Path = "/v2/" + e.prefix + q.repo + "/" + q.path
	if q.repo == "" {
		u.Path = "/v2/" + q.path
	}
	u.RawQuery = q.query.Encode()
	if q.target != nil {
		u = *q.target
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if g.header != "" && e.at(&u) {
		req.Header.Set("Authorization", g.header)
	}
	return req, nil
}
