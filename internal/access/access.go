package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

// Options are what an Access is made of. Keys and Resolve are required.
type Options struct {
	Keys *Keys
	// Resolve gives the repository that a request for name would mean at host;
	// host "" is none of the virtual ones.
	Resolve    func(host, name string) (oci.Repo, error)
	Upstreams  Upstreams             // nil: no upstream is Passthrough
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is exported
	Now        func() time.Time      // nil: time.Now
}

// Access decides who may do what. It is safe for concurrent use, and what is
// configured can be changed while it is used.
type Access struct {
	opt       Options
	policy    atomic.Pointer[policy]
	log       *slog.Logger
	now       func() time.Time
	metrics   *metrics
	verifier  *verifier
	penalties *penalties
	opener    *opener
	pass      *passthrough
	ended     *lru.Cache[[sha256.Size]byte, struct{}] // sessions that were logged out, by their hash
}

// New makes an Access.
func New(o Options, p Policy) *Access {
	a := &Access{
		opt: o, log: o.Logger, now: o.Now, metrics: newMetrics(o.Registerer),
		verifier: newVerifier(), penalties: newPenalties(), opener: newOpener(),
		pass: newPassthrough(o.Upstreams),
	}
	a.ended, _ = lru.New[[sha256.Size]byte, struct{}](maxEnded) // an error is one of a size below one
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.Apply(p)
	return a
}

// Apply replaces what is configured. Requests that were let in go on.
func (a *Access) Apply(p Policy) {
	a.policy.Store(newPolicy(p))
	a.pass.moved(p.Addresses)
}

// caller is who sent a request, found out once when it is first asked for.
type caller struct {
	once sync.Once
	done bool
	id   Identity
	// token holds what the request's token is for; nil: it came without one,
	// and is not narrowed by any.
	token  *[]Grant
	theirs bool // the token is an external token server's
	// login stands for credentials that are an upstream's; cred are these, where
	// the request itself has them.
	login loginKey
	cred  credentials
	err   error // why the credentials that it sent are no good
}

type callerKey struct{}

// Handler answers our token service and gives every other request to next,
// whose calls of May and Enter then find the caller.
func (a *Access) Handler(next http.Handler) http.Handler {
	token := oci.Handler(a.serveToken)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = a.Forwarded(r)
		if r.URL.Path == tokenPath && a.policy.Load().Tokens == nil {
			token.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, &caller{})))
	})
}

func (a *Access) caller(r *http.Request) *caller {
	c, ok := r.Context().Value(callerKey{}).(*caller)
	if !ok {
		c = &caller{}
	}
	c.once.Do(func() { a.identify(r, c); c.done = true })
	return c
}

// identify finds out who sent r.
func (a *Access) identify(r *http.Request, c *caller) {
	c.id.Via = ViaNobody
	cred, err := parseAuthorization(r.Header)
	switch {
	case err != nil:
		c.err = a.unauthorized(r, "", "", err.Error())
	case cred.token != "":
		a.byToken(r, c, cred.token, registryToken)
	case cred.user != "":
		a.byCredentials(r, c, cred)
	default:
		c.id = a.byConnection(r)
	}
}

// byCredentials is a user of ours, or else, where upstreams have a say, somebody
// whom they may know.
func (a *Access) byCredentials(r *http.Request, c *caller, cred credentials) {
	p := a.policy.Load()
	if p.passes && (p.Passwords == nil || !p.Passwords.Has(cred.user)) {
		c.id = Identity{Name: cred.user, Via: ViaUpstream}
		c.login, c.cred = a.pass.key.keyed(cred.user, cred.password), cred
		return
	}
	c.id, c.err = a.byPassword(r, cred)
}

// byToken is who a token says.
func (a *Access) byToken(r *http.Request, c *caller, raw, audience string) {
	if s := a.policy.Load().Tokens; s != nil && audience == registryToken {
		a.byTheirToken(r, c, s, raw)
		return
	}
	t, err := a.opener.open(a.opt.Keys, raw, audience, a.now())
	if err == nil && t.Via == ViaPassword {
		hash, ok := a.hash(t.Subject)
		if !ok || proofOf(hash) != t.Proof {
			err = errToken
		}
	}
	if t.Via == ViaUpstream && err == nil {
		var ok bool
		if c.login, ok = parseLoginKey(t.Login); !ok {
			err = errToken
		}
	}
	if err != nil {
		c.err = a.unauthorized(r, "", "invalid_token", "the token has expired, or is not one of ours")
		return
	}
	c.id = Identity{Name: t.Subject, Groups: t.Groups, Via: t.Via}
	c.token = &t.Access
}

func (a *Access) hash(user string) (string, bool) {
	p := a.policy.Load()
	if p.Passwords == nil {
		return "", false
	}
	return p.Passwords.hash(user, a.now())
}

// byPassword checks a user's password. The error is for the client.
func (a *Access) byPassword(r *http.Request, cred credentials) (Identity, error) {
	p, now, who := a.policy.Load(), a.now(), trier{addr: clientAddress(r.RemoteAddr), user: cred.user}
	if p.Passwords == nil {
		return Identity{}, a.unauthorized(r, "", "", "there are no users here to log in as")
	}
	hash, exists := p.Passwords.hash(cred.user, now)
	right, known := a.verifier.remembered(cred.user, cred.password, hash, now)
	if !known {
		t, wait := a.penalties.begin(who, a.pass.key.keyed(cred.user, cred.password), now)
		if wait > 0 {
			a.metrics.login(loginDelayed)
			return Identity{}, tooMany(wait)
		}
		var err error
		right, err = a.verifier.verify(r.Context(), cred.user, cred.password, hash, now)
		switch {
		case err != nil:
			t.end(triedNothing, now)
			return Identity{}, err
		case right && exists:
			t.end(triedRight, now)
		default: // the same wrong password again is a client's mistake, and tells nobody anything
			t.end(triedWrong, now)
		}
	}
	if !right || !exists {
		a.metrics.login(loginWrong)
		a.log.WarnContext(r.Context(), "login", "user", oci.Clip(cred.user, 200), "via", ViaPassword, "decision", "refused", "client", r.RemoteAddr)
		e := a.unauthorized(r, "", "", "wrong user or password")
		e.Err = errWrongPassword
		return Identity{}, e
	}
	a.metrics.login(loginRight)
	a.penalties.right(who, now)
	return Identity{Name: cred.user, Via: ViaPassword}, nil
}

// errWrongPassword is in the errors of logins that have a line of their own.
var errWrongPassword = errors.New("no user here has that password")

func tooMany(wait time.Duration) error {
	return &oci.Error{
		Code: errcode.ErrorCodeTooManyRequests, Message: "too many wrong passwords; try again later", RetryAfter: wait,
	}
}

// Enter is asked for GET /v2/, where clients find out how to log in. It is nil
// for who has logged in, and for everybody where nothing needs a login.
func (a *Access) Enter(r *http.Request) error {
	c := a.caller(r)
	if c.err != nil {
		return c.err
	}
	if c.id.Name != "" || c.token != nil || !a.policy.Load().asksWho() {
		return nil
	}
	return a.unauthorized(r, "", "", "authentication required")
}

// May returns nil when the caller of r may do action in repo, and otherwise
// what to answer: UNAUTHORIZED with a challenge where logging in could help,
// DENIED where it would not.
func (a *Access) May(r *http.Request, repo oci.Repo, action oci.Action) error {
	c := a.caller(r)
	err := a.decide(r, c, repo, action)
	a.audit(r, c, repo, action, err)
	return err
}

// Sees reports whether the caller of r may pull from repo, where many are asked
// about: a list's worth of refusals is nothing that an operator wants to read.
func (a *Access) Sees(r *http.Request, repo oci.Repo) bool {
	return a.decide(r, a.caller(r), repo, oci.ActionPull) == nil
}

func (a *Access) decide(r *http.Request, c *caller, repo oci.Repo, action oci.Action) error {
	if c.err != nil {
		return c.err
	}
	if p := a.policy.Load(); p.Upstreams[repo.Upstream] == Passthrough && !p.Unguarded {
		return a.passes(r, c, repo, action)
	}
	if c.theirs {
		return a.byGrant(r, c, repo, action)
	}
	want := scopeOf(repo, action)
	if !a.policy.Load().allows(c.id, repo, action) {
		if c.id.known() {
			return oci.NewError(errcode.ErrorCodeDenied, "%s may not %s %s", c.id, action, repo)
		}
		return a.unauthorized(r, want, "", "authentication required")
	}
	if c.token == nil || granted(*c.token, repo, action) {
		return nil
	}
	if a.policy.Load().allows(Identity{}, repo, action) { // without a token, too
		return nil
	}
	return a.unauthorized(r, want, "insufficient_scope", "the token is not for this")
}

// Who is the caller of r as logs have it, "" where that was not asked or is not
// known.
func (a *Access) Who(r *http.Request) string {
	if c, ok := r.Context().Value(callerKey{}).(*caller); ok && c.done {
		return c.id.Name
	}
	return ""
}

// audit writes what was decided: always, where something would be changed or
// was refused; what was merely read is in the access log.
func (a *Access) audit(r *http.Request, c *caller, repo oci.Repo, action oci.Action, err error) {
	decision, level := "allowed", slog.LevelInfo
	var e *oci.Error
	switch {
	case err == nil && action == oci.ActionPull:
		level = slog.LevelDebug
	case err == nil:
	case errors.As(err, &e) && e.Code == errcode.ErrorCodeUnauthorized && c.id.Name == "" && c.err == nil:
		decision, level = "asked to log in", slog.LevelDebug // the first half of every login
	default:
		decision, level = "refused", slog.LevelWarn
	}
	a.metrics.decision(action, decision)
	if !a.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("user", oci.Clip(c.id.String(), 200)), slog.String("via", c.id.Via), slog.String("action", string(action)),
		slog.String("repo", repo.String()), slog.String("decision", decision), slog.String("client", r.RemoteAddr),
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	a.log.LogAttrs(r.Context(), level, "access", attrs...)
}
