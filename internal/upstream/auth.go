package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// authorizer finds out how the upstream wants to be asked and keeps a token a
// repository. Any number of requests wait for one exchange.
type authorizer struct {
	upstream string
	root     *url.URL
	creds    authn.Authenticator // authn.Anonymous where there are none
	realms   []string            // see Options.TokenRealms
	rt       http.RoundTripper
	metrics  *metrics
	timeout  time.Duration // of one question to the upstream or its token service

	pings     shared[*transport.Challenge]
	exchanges shared[token]

	mu        sync.Mutex
	challenge *transport.Challenge // nil until the upstream told
	tokens    map[string]token     // by repository
}

// token is a bearer token of one repository.
type token struct {
	header string    // of Authorization
	until  time.Time // to be renewed then
	scopes []string  // what was asked for
}

// grant is what one request was sent with.
type grant struct {
	header string // of Authorization; "": none
	fresh  bool   // a token that was exchanged for this request
}

// maxTokens bounds the tokens that are remembered: repositories' names come
// from clients.
const maxTokens = 4096

func newAuthorizer(o Options, rt http.RoundTripper, m *metrics) *authorizer {
	return &authorizer{
		upstream: o.Name, root: &url.URL{Scheme: o.URL.Scheme, Host: o.URL.Host},
		creds: o.credentials(), realms: o.TokenRealms, rt: rt, metrics: m,
		timeout: o.HeaderTimeout + o.StallTimeout,
		tokens:  map[string]token{},
	}
}

// authorize gives what a request for repo is sent with; push says that it wants to
// change something there.
func (a *authorizer) authorize(ctx context.Context, repo string, push bool) (grant, error) {
	ch, err := a.discover(ctx)
	if err != nil {
		return grant{}, err
	}
	switch strings.ToLower(ch.Scheme) {
	case "basic":
		h, err := a.basic(ctx)
		return grant{header: h}, err
	case "bearer":
		return a.bearer(ctx, repo, push, ch, "")
	default: // none, or one that we can't meet
		return grant{}, nil
	}
}

// reauthorize gives what a request for repo is sent with anew after a 401 that
// came with header h; ok is false where nothing else can be offered than g.
func (a *authorizer) reauthorize(ctx context.Context, repo string, push bool, g grant, h http.Header) (_ grant, ok bool, err error) {
	ch, err := a.parse(ctx, h)
	if err != nil {
		return grant{}, false, err
	}
	if ch.Scheme == "" { // refused without a word: as it was wanted before
		if ch, err = a.discover(ctx); err != nil {
			return grant{}, false, err
		}
	}
	switch strings.ToLower(ch.Scheme) {
	case "basic":
		a.learn(ch)
		header, err := a.basic(ctx)
		return grant{header: header}, header != g.header, err
	case "bearer":
		scope := ch.Parameters["scope"]
		if g.fresh && !a.learn(ch) && (scope == "" || scope == usualScope(repo, push)) {
			return grant{}, false, nil // the same question would be answered the same
		}
		a.learn(ch)
		a.expire(repo, g.header)
		g, err = a.bearer(ctx, repo, push, ch, scope)
		return g, err == nil, err
	default:
		return grant{}, false, nil
	}
}

// learn remembers how the upstream wants to be asked, and reports whether that
// is news.
func (a *authorizer) learn(ch *transport.Challenge) (news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.challenge
	a.challenge = ch
	return old == nil || !strings.EqualFold(old.Scheme, ch.Scheme) ||
		old.Parameters["realm"] != ch.Parameters["realm"] || old.Parameters["service"] != ch.Parameters["service"]
}

func (a *authorizer) learned() *transport.Challenge {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.challenge
}

// expire has the token for repo renewed. What it was for is remembered.
func (a *authorizer) expire(repo, header string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.tokens[repo]; ok && t.header == header { // else somebody has renewed it already
		t.until = time.Time{}
		a.tokens[repo] = t
	}
}

func (a *authorizer) basic(ctx context.Context) (string, error) {
	cfg, err := authn.Authorization(ctx, a.creds)
	if err != nil {
		return "", fmt.Errorf("read the credentials for upstream %s: %w", a.upstream, err)
	}
	if cfg.Username == "" || cfg.Password == "" {
		return "", nil
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(cfg.Username+":"+cfg.Password)), nil
}

// pullScope is what reading of repo takes, "" being the list of repositories.
func pullScope(repo string) string {
	if repo == "" {
		return "registry:catalog:*"
	}
	return "repository:" + repo + ":pull"
}

func pushScope(repo string) string { return "repository:" + repo + ":pull,push" }

// usualScope is what a token is asked to be for where the upstream names nothing.
func usualScope(repo string, push bool) string {
	if push {
		return pushScope(repo)
	}
	return pullScope(repo)
}

// bearer gives the token for repo, from memory or exchanged. scope is what the
// upstream asked for beyond the usual one, "" for nothing: not every one says
// what it wants, or says it in other words. What was asked for once is asked for
// again, so that pulls between pushes need no token of their own.
func (a *authorizer) bearer(ctx context.Context, repo string, push bool, ch *transport.Challenge, scope string) (grant, error) {
	a.mu.Lock()
	scopes := a.tokens[repo].scopes
	a.mu.Unlock()
	switch usual := usualScope(repo, push); {
	case scope != "" && scope != usual:
		scopes = []string{scope, usual} // some services look at the first one alone
	case scope != "", scopes == nil, push && !slices.Contains(scopes, usual):
		scopes = []string{usual}
	}
	if t, ok := a.known(repo, scopes); ok {
		return grant{header: t.header}, nil
	}
	t, err := a.exchanges.do(ctx, repo+"\n"+strings.Join(scopes, "\n"), func(ctx context.Context) (token, error) {
		if t, ok := a.known(repo, scopes); ok { // another exchange has just ended
			return t, nil
		}
		t, err := a.exchange(ctx, ch, scopes)
		if err == nil {
			a.keep(repo, t)
		}
		return t, err
	})
	return grant{header: t.header, fresh: true}, err
}

// known is the token for repo and scopes, if there is a good one.
func (a *authorizer) known(repo string, scopes []string) (token, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.tokens[repo]
	return t, ok && slices.Equal(scopes, t.scopes) && time.Now().Before(t.until)
}

func (a *authorizer) keep(repo string, t token) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.tokens) >= maxTokens {
		now := time.Now()
		for r, t := range a.tokens {
			if now.After(t.until) {
				delete(a.tokens, r)
			}
		}
		if len(a.tokens) >= maxTokens {
			clear(a.tokens)
		}
	}
	a.tokens[repo] = t
}

// discover asks the upstream how it wants to be asked, until it has answered.
func (a *authorizer) discover(ctx context.Context) (*transport.Challenge, error) {
	if ch := a.learned(); ch != nil {
		return ch, nil
	}
	return a.pings.do(ctx, "", func(ctx context.Context) (*transport.Challenge, error) {
		if ch := a.learned(); ch != nil { // another ping has just ended
			return ch, nil
		}
		ch, err := a.ping(ctx)
		if err == nil {
			a.learn(ch)
		}
		return ch, err
	})
}

// pingHost stands for the upstream in the library's ping, which would race
// https against http for hosts that it takes for local ones. The operator has
// said which of the two it is.
const pingHost = "upstream.invalid"

func (a *authorizer) ping(ctx context.Context) (*transport.Challenge, error) {
	reg, err := name.NewRegistry(pingHost)
	if err != nil {
		return nil, fmt.Errorf("ping upstream %s: %w", a.upstream, err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	ex := &exchanger{authorizer: a, op: opPing}
	ch, err := transport.Ping(ctx, reg, ex)
	if err != nil {
		err = ex.explain(err)
		if s, ok := errors.AsType[*StatusError](err); ok && !retryStatus[s.Status] && s.Status < 500 {
			return &transport.Challenge{}, nil // a registry without its root: a 401 will tell
		}
		return nil, err
	}
	ch.Insecure = a.root.Scheme == "http"
	return ch, nil
}

// parse reads the challenge of a 401 with the library's parser, which is only
// reached through its ping.
func (a *authorizer) parse(ctx context.Context, h http.Header) (*transport.Challenge, error) {
	reg, err := name.NewRegistry(pingHost)
	if err != nil {
		return nil, fmt.Errorf("parse the challenge of upstream %s: %w", a.upstream, err)
	}
	ch, err := transport.Ping(ctx, reg, roundTripFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusUnauthorized, Header: h, Body: http.NoBody, Request: r,
			ProtoMajor: 1, ProtoMinor: 1,
		}, nil
	}))
	if err != nil {
		return nil, fmt.Errorf("parse the challenge of upstream %s: %w", a.upstream, err)
	}
	ch.Insecure = a.root.Scheme == "http"
	return ch, nil
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// exchange gets a token for scopes from the realm that ch names (distribution
// project, "Token Authentication Specification").
func (a *authorizer) exchange(ctx context.Context, ch *transport.Challenge, scopes []string) (token, error) {
	creds, err := a.who(ctx)
	if err != nil {
		return token{}, err
	}
	realm, err := a.checkRealm(ch.Parameters["realm"], creds)
	if err != nil {
		return token{}, err
	}
	// For the library the realm is its own registry: what it may be was just
	// decided, and the library's own rule knows no private upstreams.
	reg, err := name.NewRegistry(realm.Host)
	if err != nil {
		return token{}, &ProtocolError{Upstream: a.upstream, Op: string(opToken), Reason: "its token service's host is no host"}
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	asked := time.Now()
	ex := &exchanger{authorizer: a, op: opToken}
	tok, err := transport.Exchange(ctx, reg, creds, ex, scopes, ch)
	if err != nil {
		return token{}, ex.explain(err)
	}
	value := tok.AccessToken
	if value == "" {
		value = tok.Token
	}
	life := time.Minute // what the specification says where the answer doesn't
	if tok.ExpiresIn > 0 {
		life = min(time.Duration(tok.ExpiresIn), 24*60*60) * time.Second
	}
	life -= min(life/4, 30*time.Second) // it must last the request, and clocks differ
	return token{header: "Bearer " + value, until: asked.Add(life), scopes: scopes}, nil
}

// exchanger carries the library's requests for one ping or token, and keeps
// what its errors would lose.
type exchanger struct {
	*authorizer
	op         op
	retryAfter time.Duration
}

// maxAuthBody bounds what is read of an answer to a ping, which the library
// reads to its end.
const maxAuthBody = 64 << 10

func (e *exchanger) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == pingHost {
		req = req.Clone(req.Context())
		req.URL.Scheme, req.URL.Host, req.Host = e.root.Scheme, e.root.Host, ""
	}
	start := time.Now()
	resp, err := e.rt.RoundTrip(req)
	if err != nil {
		e.metrics.failed(e.op, errors.Is(req.Context().Err(), context.Canceled))
		return nil, err
	}
	e.metrics.answered(e.op, resp.StatusCode, start)
	e.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAuthBody), resp.Body}
	return resp, nil
}

// explain turns the library's errors into ours, without its URLs and bodies.
func (e *exchanger) explain(err error) error {
	if t, ok := errors.AsType[*transport.Error](err); ok {
		s := &StatusError{
			Upstream: e.upstream, Op: string(e.op), Status: t.StatusCode,
			Code: inventCode(e.op, t.StatusCode), RetryAfter: e.retryAfter,
		}
		if len(t.Errors) > 0 {
			s.setBody(string(t.Errors[0].Code), t.Errors[0].Message)
		}
		return s
	}
	if p, ok := errors.AsType[*PolicyError](err); ok {
		return p
	}
	switch text := err.Error(); {
	case strings.Contains(text, "refusing token-server redirect"):
		return &PolicyError{Upstream: e.upstream, Reason: "its token service redirects to where tokens are not asked for"}
	case strings.HasPrefix(text, "no token in bearer response"), is[*json.SyntaxError](err), is[*json.UnmarshalTypeError](err):
		return &ProtocolError{Upstream: e.upstream, Op: string(e.op), Reason: "no token in the answer"}
	default:
		return unreachable(e.upstream, e.op, err)
	}
}
