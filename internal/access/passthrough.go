package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/sociable/sociable/internal/oci"
)

// Upstreams asks upstreams in callers' names. Its errors wrap ErrRefused where
// the upstream refuses, ErrUnknown where it knows nothing of that name; all
// others say nothing about the caller.
type Upstreams interface {
	// Login exchanges credentials for what upstream is asked with, into s or,
	// where that is nil, a new Session, to pull from repo, and to push where
	// Policy.Pushed says so. repo "" only finds out whether they are good.
	Login(ctx context.Context, upstream string, s Session, user, password, repo string) (Session, error)
	// Check asks whether s may pull from repo; nil is a caller without
	// credentials. kind and ref tell what of it is wanted, "manifests" and "v1"
	// for example, and are "" where that is not one thing.
	Check(ctx context.Context, s Session, repo oci.Repo, kind, ref string) error
}

// Session is what an upstream is asked with in a caller's name. It holds no
// password.
type Session interface {
	// Until is how long it is good for repo.
	Until(repo string) time.Time
}

// What an upstream says about a caller.
var (
	ErrRefused = errors.New("the upstream refuses this caller")
	ErrUnknown = errors.New("the upstream does not know this")
)

// How long an upstream's word about a caller and a repository counts.
const (
	mayTTL    = 5 * time.Minute
	mayNotTTL = time.Minute
	// mayGrace is how long it counts while the upstream can't be asked.
	mayGrace = time.Hour
	// checkTime bounds asking it.
	checkTime = 10 * time.Second
	// awayTTL is how long it counts as away after a login got no answer, and
	// awayRetry how long nobody waits for the next try.
	awayTTL   = time.Minute
	awayRetry = 5 * time.Second
)

// Bounds on what is remembered of callers.
const (
	maxSessions = 4096
	maxWords    = 16384
)

// loginKey stands for a caller's credentials: a keyed hash. Zero is nobody.
type loginKey [sha256.Size]byte

func (k loginKey) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }

func parseLoginKey(s string) (k loginKey, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	return k, err == nil && copy(k[:], raw) == len(k) && len(raw) == len(k)
}

// passthrough is what upstreams said about callers.
type passthrough struct {
	ask      Upstreams
	key      secret
	sessions *lru.Cache[sessionOf, Session]
	words    *lru.Cache[wordOf, word]
	aways    *lru.Cache[sessionOf, away]
	same     singleflight.Group
}

type sessionOf struct {
	login    loginKey
	upstream string
}

// wordOf is whom and what an upstream was asked about; a repository without a
// name is the login itself.
type wordOf struct {
	login loginKey
	repo  oci.Repo
}

type word struct {
	may  bool
	when time.Time
}

// away is that a login got no answer.
type away struct {
	err  error
	when time.Time
}

func newPassthrough(ask Upstreams) *passthrough {
	sessions, err := lru.New[sessionOf, Session](maxSessions)
	if err != nil {
		panic(err) // the size is a constant
	}
	words, err := lru.New[wordOf, word](maxWords)
	if err != nil {
		panic(err) // the size is a constant
	}
	aways, err := lru.New[sessionOf, away](maxSessions)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &passthrough{ask: ask, key: newSecret(), sessions: sessions, words: words, aways: aways}
}

// session is what upstream is asked with for login; nil: nobody, or not known.
func (p *passthrough) session(login loginKey, upstream string) Session {
	if login == (loginKey{}) {
		return nil
	}
	s, _ := p.sessions.Get(sessionOf{login, upstream})
	return s
}

// ready reports whether upstream can be asked about repo without another login.
func (p *passthrough) ready(login loginKey, repo oci.Repo, now time.Time) bool {
	s := p.session(login, repo.Upstream)
	return s != nil && s.Until(repo.Name).After(now)
}

// refuses reports that upstream has just refused login's credentials.
func (p *passthrough) refuses(login loginKey, upstream string, now time.Time) bool {
	w, ok := p.words.Get(wordOf{login, oci.Repo{Upstream: upstream}})
	return ok && !w.may && now.Sub(w.when) < mayNotTTL
}

// awayFor is why upstream got no answer to login's last try to log in, if that
// was less than d ago; or nil.
func (p *passthrough) awayFor(login loginKey, upstream string, d time.Duration, now time.Time) error {
	if x, ok := p.aways.Get(sessionOf{login, upstream}); ok && now.Sub(x.when) < d {
		return x.err
	}
	return nil
}

// graced reports whether err, of a try to ask upstream, leaves what it said
// about login and repo before to count: it said nothing now, and trouble there
// must not take down what is cached here.
func (p *passthrough) graced(login loginKey, repo oci.Repo, err error, now time.Time) bool {
	w, known := p.words.Get(wordOf{login, repo})
	_, ours := errors.AsType[*oci.Error](err)
	return err != nil && !ours && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknown) &&
		known && w.may && now.Sub(w.when) < mayGrace
}

// login makes sure that upstream can be asked about repo with cred.
func (p *passthrough) login(ctx context.Context, login loginKey, cred credentials, repo oci.Repo, now time.Time) error {
	if repo.Name != "" && p.ready(login, repo, now) {
		return nil
	}
	whole := wordOf{login, oci.Repo{Upstream: repo.Upstream}}
	if p.refuses(login, repo.Upstream, now) {
		return ErrRefused
	}
	if err := p.awayFor(login, repo.Upstream, awayRetry, now); p.graced(login, repo, err, now) {
		return err
	}
	_, err, _ := p.same.Do("login "+login.String()+repo.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
		defer cancel()
		s, err := p.ask.Login(ctx, repo.Upstream, p.session(login, repo.Upstream), cred.user, cred.password, repo.Name)
		switch {
		case err == nil:
			p.aways.Remove(sessionOf{login, repo.Upstream})
			p.sessions.Add(sessionOf{login, repo.Upstream}, s)
			if w, ok := p.words.Peek(wordOf{login, repo}); ok && !w.may {
				p.words.Remove(wordOf{login, repo})
			}
		case errors.Is(err, ErrRefused):
			p.words.Add(whole, word{when: now})
			p.aways.Remove(sessionOf{login, repo.Upstream})
		case !errors.Is(err, ErrUnknown):
			p.aways.Add(sessionOf{login, repo.Upstream}, away{err, now})
		}
		return nil, err
	})
	return err
}

// may asks upstream whether login may pull from repo, or remembers what it said.
func (p *passthrough) may(ctx context.Context, login loginKey, repo oci.Repo, kind, ref string, now time.Time) error {
	key := wordOf{login, repo}
	w, known := p.words.Get(key)
	if known && w.may && now.Sub(w.when) < mayTTL {
		return nil
	}
	if known && !w.may && now.Sub(w.when) < mayNotTTL {
		return ErrRefused
	}
	_, err, _ := p.same.Do("may "+login.String()+repo.String()+" "+kind+" "+ref, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
		defer cancel()
		err := p.ask.Check(ctx, p.session(login, repo.Upstream), repo, kind, ref)
		switch {
		case err == nil:
			p.words.Add(key, word{true, now})
		case errors.Is(err, ErrRefused):
			p.words.Add(key, word{false, now})
		}
		return nil, err
	})
	if p.graced(login, repo, err, now) {
		return nil
	}
	return err
}

// refused forgets what an upstream said, because it has just said otherwise.
func (p *passthrough) refused(login loginKey, repo oci.Repo) { p.words.Remove(wordOf{login, repo}) }

// passes decides about an upstream whose own word counts.
func (a *Access) passes(r *http.Request, c *caller, repo oci.Repo, action oci.Action) error {
	pushes := action == oci.ActionPush && a.policy.Load().Pushed[repo.Upstream]
	if action != oci.ActionPull && !pushes {
		return oci.NewError(errcode.ErrorCodeDenied, "only pulls go through to %s: %s there", repo.Upstream, action)
	}
	if c.token != nil && !granted(*c.token, repo, action) && c.login != (loginKey{}) {
		return a.unauthorized(r, scopeOf(repo, action), "insufficient_scope", "the token is not for this")
	}
	p, now := a.pass, a.now()
	if c.login != (loginKey{}) {
		var err error
		switch {
		case !c.cred.none():
			err = a.loginUpstream(r, c, repo)
		case !p.ready(c.login, repo, now): // of another process, or over
			if err = p.awayFor(c.login, repo.Upstream, awayTTL, now); err == nil {
				return a.unauthorized(r, scopeOf(repo, action), "invalid_token", "log in again")
			}
		}
		if action == oci.ActionPull && p.graced(c.login, repo, err, now) {
			return nil
		}
		if err != nil {
			return a.passError(r, c, repo, err)
		}
	}
	if pushes { // it says so itself when something is sent to it
		return a.mayPush(r, c, repo)
	}
	kind, ref := wanted(r)
	return a.passError(r, c, repo, p.may(r.Context(), c.login, repo, kind, ref, now))
}

// mayPush lets those push who are somebody at the upstream.
func (a *Access) mayPush(r *http.Request, c *caller, repo oci.Repo) error {
	switch {
	case c.login != (loginKey{}):
		return nil
	case c.id.known():
		return oci.NewError(errcode.ErrorCodeDenied, "%s is no user of %s, which decides who pushes there", c.id, repo.Upstream)
	default:
		return a.unauthorized(r, scopeOf(repo, oci.ActionPush), "", "log in with the credentials for "+repo.Upstream+" to push there")
	}
}

// loginUpstream exchanges c's credentials, unless that was tried too often.
func (a *Access) loginUpstream(r *http.Request, c *caller, repo oci.Repo) error {
	now, addr := a.now(), clientAddress(r.RemoteAddr)
	var t *try
	if s := a.pass.session(c.login, repo.Upstream); s == nil && !a.pass.refuses(c.login, repo.Upstream, now) {
		var wait time.Duration
		if t, wait = a.penalties.begin(addr, c.cred.user, c.login, now); wait > 0 {
			a.metrics.login(loginDelayed)
			return tooMany(wait)
		}
	}
	err := a.pass.login(r.Context(), c.login, c.cred, repo, now)
	verdict := triedNothing
	switch {
	case errors.Is(err, ErrRefused):
		verdict = triedWrong
		a.metrics.login(loginWrong)
		a.log.WarnContext(r.Context(), "login", "user", c.cred.user, "via", ViaUpstream, "upstream", repo.Upstream, "decision", "refused", "client", r.RemoteAddr)
	case err == nil:
		verdict = triedRight
		a.metrics.login(loginRight)
		a.penalties.right(addr, c.cred.user, now)
	}
	if t != nil {
		t.end(verdict, now)
	}
	return err
}

// passError turns what an upstream said about a caller into an answer.
func (a *Access) passError(r *http.Request, c *caller, repo oci.Repo, err error) error {
	var known *oci.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, ErrUnknown):
		code := errcode.ErrorCodeNameUnknown
		switch kind, _ := wanted(r); kind {
		case "blobs":
			code = errcode.ErrorCodeBlobUnknown
		case "manifests", "referrers":
			code = errcode.ErrorCodeManifestUnknown
		}
		return &oci.Error{Code: code, Message: fmt.Sprintf("%s does not have it", repo), Err: err}
	case errors.Is(err, ErrRefused) && c.id.known(): // who it is, is known; another login would not be passed on
		return &oci.Error{Code: errcode.ErrorCodeDenied, Message: fmt.Sprintf("%s is not public, and %s is no user of %s", repo, c.id, repo.Upstream), Err: err}
	case errors.Is(err, ErrRefused):
		e := a.unauthorized(r, scopeOf(repo, oci.ActionPull), "", fmt.Sprintf("%s refuses %s to this caller: log in here with the credentials for %s", repo.Upstream, repo, repo.Upstream))
		e.Err = err
		return e
	default:
		return &oci.Error{
			Code: errcode.ErrorCodeUnavailable, RetryAfter: time.Second, Err: err,
			Message: fmt.Sprintf("%s cannot be asked whether this caller may pull %s", repo.Upstream, repo),
		}
	}
}

// wanted is what of a repository r asks for.
func wanted(r *http.Request) (kind, ref string) {
	rest, ref, ok := cutLast(r.URL.Path)
	if !ok {
		return "", ""
	}
	_, kind, _ = cutLast(rest)
	switch kind {
	case "manifests", "blobs", "referrers":
		return kind, ref
	default:
		return "", ""
	}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// Binding is in whose name an upstream is asked for what a request needs of it.
type Binding struct {
	Session Session // nil: nobody's
	refused func(error) error
}

// Refused is the answer to a caller in whose name an upstream was asked for
// nothing: it may log in again.
func (b Binding) Refused(err error) error { return b.refused(err) }

// Bind is in whose name upstreams are asked for r, once May allowed it.
func (a *Access) Bind(r *http.Request, repo oci.Repo) Binding {
	c := a.caller(r)
	action := oci.ActionPull
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		action = oci.ActionPush
	}
	challenge := a.unauthorized(r, scopeOf(repo, action), "", repo.Upstream+" refuses this caller: log in again").Challenge
	login := c.login // and no more of the request: a transfer outlives it
	return Binding{
		Session: a.pass.session(login, repo.Upstream),
		refused: func(err error) error {
			a.pass.refused(login, repo)
			return &oci.Error{
				Code: errcode.ErrorCodeUnauthorized, Message: repo.Upstream + " refuses this caller: log in again", Challenge: challenge, Err: err,
			}
		},
	}
}

// SessionOf is in whose name upstream is asked under the context of a request,
// or nil.
func (a *Access) SessionOf(ctx context.Context, upstream string) Session {
	c, ok := ctx.Value(callerKey{}).(*caller)
	if !ok || !c.done {
		return nil
	}
	return a.pass.session(c.login, upstream)
}
