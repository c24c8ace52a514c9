package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// basicLife is how long a caller's password is kept, in memory, for an upstream
// that has no tokens to give for it.
const basicLife = 5 * time.Minute

// Caller is somebody in whose name the upstream is asked, by requests whose
// context comes from As, instead of in our own. It keeps the tokens that the
// upstream's token service gave for its credentials, and not these. It is safe
// for concurrent use.
type Caller struct {
	e    *endpoint
	gate *gate // holds for this caller alone; without a breaker

	mu     sync.Mutex
	tokens map[string]token // by repository
	basic  token            // for all of them; of an upstream that has no tokens
	away   error            // why the last Login got no answer; nil: it got one
}

// asker finds out what a request is sent with.
type asker interface {
	authorize(ctx context.Context, repo string, push bool) (grant, error)
	reauthorize(ctx context.Context, repo string, push bool, g grant, h http.Header) (_ grant, ok bool, err error)
}

type callerKey struct{}

// As gives a context in which k's upstream is asked in its name; nil leaves
// ctx as it is. Other upstreams are not asked with it.
func As(ctx context.Context, k *Caller) context.Context {
	if k == nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, k)
}

// asker is in whose name e is asked under ctx.
func (e *endpoint) asker(ctx context.Context) asker {
	if k := e.caller(ctx); k != nil {
		return k
	}
	return e.auth
}

// caller is in whose name e is asked under ctx, or nil: in our own.
func (e *endpoint) caller(ctx context.Context) *Caller {
	if k, ok := ctx.Value(callerKey{}).(*Caller); ok && k.e == e {
		return k
	}
	return nil
}

// NewCaller gives a caller who has not logged in yet.
func (c *Client) NewCaller() *Caller {
	e := c.ends[len(c.ends)-1]
	g := &gate{settings: c.opt.gate(), upstream: e.gate.upstream, metrics: e.gate.metrics, log: e.log}
	return &Caller{e: e, gate: g, tokens: map[string]token{}}
}

// wait waits while the upstream wants a pause of k, which may be nil.
func (k *Caller) wait(ctx context.Context, patient bool, held *time.Duration) error {
	if k == nil {
		return nil
	}
	return k.gate.wait(ctx, patient, held)
}

// judge notes what the outcome of a request says about k, which may be nil, and
// returns what is left to say about the endpoint. Registries limit each account:
// that one caller's limit is spent holds back nobody else.
func (k *Caller) judge(ctx context.Context, start time.Time, err error) error {
	s, ok := errors.AsType[*StatusError](err)
	if k == nil || err != nil && (!ok || s.Status != http.StatusTooManyRequests || s.elsewhere) {
		return err
	}
	_ = k.gate.judge(ctx, start, err) // there is no breaker to tell
	return nil
}

// Login exchanges a caller's credentials for a token to pull from repo, and to
// push to it where Options.CallersPush says so and they may; "" only finds out
// whether they are good. Credentials that the upstream doesn't take are an error
// of IsDenied. They go where the upstream's own may go, see Options.TokenRealms.
func (k *Caller) Login(ctx context.Context, username, password, repo string) error {
	err := k.login(ctx, username, password, repo)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away = err; IsDenied(err) {
		k.away = nil
	}
	return err
}

func (k *Caller) login(ctx context.Context, username, password, repo string) error {
	a := k.e.auth
	ch, err := a.discover(ctx)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	switch strings.ToLower(ch.Scheme) {
	case "bearer":
		theirs := &authorizer{
			upstream: a.upstream, root: a.root, creds: &authn.Basic{Username: username, Password: password},
			realms: a.realms, rt: a.rt, metrics: a.metrics, timeout: a.timeout,
		}
		t, err := k.exchange(ctx, theirs, ch, repo)
		switch {
		case refusedBy(err) == http.StatusUnauthorized:
			return fmt.Errorf("log in: %w: %w", ErrCredentials, err)
		case err != nil:
			return fmt.Errorf("log in: %w", err)
		}
		k.keep(repo, t)
		return nil
	case "basic":
		return k.loginBasic(ctx, username, password)
	default: // it asks nobody who they are
		k.mu.Lock()
		defer k.mu.Unlock()
		k.basic = token{until: time.Now().Add(basicLife)}
		return nil
	}
}

// exchange asks for all that may be needed. Token services give what of it the
// caller may have; one that forbids it as a whole is asked for less. After a 401,
// which is about the credentials, that would only be another wrong password.
func (k *Caller) exchange(ctx context.Context, a *authorizer, ch *transport.Challenge, repo string) (token, error) {
	if repo == "" {
		return a.exchange(ctx, ch, nil)
	}
	repo = k.e.prefix + repo
	if k.e.c.opt.CallersPush {
		t, err := a.exchange(ctx, ch, []string{pushScope(repo)})
		if refusedBy(err) != http.StatusForbidden {
			return t, err
		}
	}
	return a.exchange(ctx, ch, []string{pullScope(repo)})
}

// refusedBy is the status with which a caller is refused, 0 where err is none.
func refusedBy(err error) int {
	if s, ok := errors.AsType[*StatusError](err); ok && IsDenied(err) {
		return s.Status
	}
	return 0
}

func (k *Caller) keep(repo string, t token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.tokens) >= maxTokens {
		clear(k.tokens)
	}
	k.tokens[repo] = t
}

// ErrCredentials says that a Login was refused whatever repository it was for:
// asking again for less would only be another wrong password.
var ErrCredentials = errors.New("credentials are refused")

// loginBasic tries the credentials on the upstream's root.
func (k *Caller) loginBasic(ctx context.Context, username, password string) error {
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
	ctx, cancel := context.WithTimeout(ctx, k.e.auth.timeout)
	defer cancel()
	u := k.e.root
	u.Path = "/v2/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	req.Header.Set("Authorization", header)
	ex := &exchanger{authorizer: k.e.auth, op: opToken}
	resp, err := ex.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("log in: %w", ex.explain(err))
	}
	_ = resp.Body.Close()                                                   // not read
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotFound { // a registry without its root has to be asked something else
		err := &StatusError{
			Upstream: k.e.auth.upstream, Op: string(opToken), Status: resp.StatusCode,
			Code: inventCode(opToken, resp.StatusCode), RetryAfter: ex.retryAfter,
		}
		if IsDenied(err) {
			return fmt.Errorf("log in: %w: %w", ErrCredentials, err)
		}
		return fmt.Errorf("log in: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.basic = token{header: header, until: time.Now().Add(basicLife)}
	return nil
}

// Of reports whether k is a caller of c: of another client's, c knows nothing.
func (k *Caller) Of(c *Client) bool { return k.e.c == c }

// Until is how long repo can be asked in the caller's name without another
// Login; in the past where it can't, as after the client was closed.
func (k *Caller) Until(repo string) time.Time {
	if k.e.c.closed.Load() {
		return time.Time{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.tokens[repo]; ok {
		return t.until
	}
	return k.basic.until
}

// authorize gives what the caller has. Without it there is no asking as
// somebody else: the answer is the refusal that the upstream would give, or why
// it could not be asked for more.
func (k *Caller) authorize(_ context.Context, repo string, _ bool) (grant, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range []token{k.tokens[strings.TrimPrefix(repo, k.e.prefix)], k.basic} {
		if time.Now().Before(t.until) {
			return grant{header: t.header}, nil
		}
	}
	if k.away != nil {
		return grant{}, k.away
	}
	return grant{}, &StatusError{
		Upstream: k.e.auth.upstream, Op: string(opToken), Status: http.StatusUnauthorized,
		Code: inventCode(opToken, http.StatusUnauthorized), Message: "the caller has to log in again",
	}
}

// reauthorize has nothing else to offer: the credentials are gone. What the
// upstream does not take any more is forgotten, and how it wants to be asked is
// remembered for the next Login.
func (k *Caller) reauthorize(ctx context.Context, repo string, _ bool, g grant, h http.Header) (grant, bool, error) {
	if ch, err := k.e.auth.parse(ctx, h); err == nil && ch.Scheme != "" {
		k.e.auth.learn(ch)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if repo = strings.TrimPrefix(repo, k.e.prefix); k.tokens[repo].header == g.header {
		delete(k.tokens, repo)
	}
	if k.basic.header == g.header {
		k.basic = token{}
	}
	return grant{}, false, nil
}
