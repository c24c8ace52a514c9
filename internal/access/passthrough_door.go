package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// passes decides about an upstream whose own word counts.
func (a *Access) passes(r *http.Request, c *caller, repo oci.Repo, action oci.Action) error {
	pushes := action == oci.ActionPush && a.policy.Load().Pushed[repo.Upstream]
	if action != oci.ActionPull && !pushes {
		return oci.NewError(errcode.ErrorCodeDenied, "only pulls go through to %s: %s there", repo.Upstream, action)
	}
	if c.token != nil && !granted(*c.token, repo, action) && c.login != (loginKey{}) {
		if a.pass.refusedThere(c.login, repo, a.now()) { // which is why
			return a.passError(r, c, repo, errRefusedThere)
		}
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
	now, who := a.now(), trier{clientAddress(r.RemoteAddr), c.cred.user, repo.Upstream}
	var t *try
	if !a.pass.met(c.login, repo.Upstream) && !a.pass.refuses(c.login, repo.Upstream, now) {
		var wait time.Duration
		if t, wait = a.penalties.begin(who, c.login, now); wait > 0 {
			a.metrics.login(loginDelayed)
			return tooMany(wait)
		}
	}
	err := a.pass.login(r.Context(), c.login, c.cred, repo, now)
	verdict := triedNothing
	switch {
	case errors.Is(err, errRefusedThere) && a.pass.believes(c.login, repo.Upstream): // no guess, and nothing that makes up for guesses
	case errors.Is(err, errRefusedThere): // it may be one
		verdict = triedWrong
		a.pass.proven.Add(sessionOf{c.login, repo.Upstream}, false)
		if t != nil { // what has counted is told once
			a.wrongThere(r, c, repo)
		}
	case r.Context().Err() != nil: // the answer will be known to who asks again
		verdict = triedWrong
	case errors.Is(err, ErrRefused):
		verdict = triedWrong
		a.wrongThere(r, c, oci.Repo{Upstream: repo.Upstream})
	case err == nil && !a.pass.believes(c.login, repo.Upstream): // that tells nothing
	case err == nil:
		verdict = triedRight
		a.metrics.login(loginRight)
		a.penalties.right(who, now)
	}
	if t != nil {
		t.end(verdict, now)
	}
	return err
}

// wrongThere tells operators of credentials that an upstream refused, or of which
// it said no more than that it refuses repo to them.
func (a *Access) wrongThere(r *http.Request, c *caller, repo oci.Repo) {
	a.metrics.login(loginWrong)
	attrs := []slog.Attr{
		slog.String("user", oci.Clip(c.cred.user, 200)), slog.String("via", ViaUpstream), slog.String("upstream", repo.Upstream),
		slog.String("decision", "refused"), slog.String("client", r.RemoteAddr),
	}
	if repo.Name != "" {
		attrs = append(attrs, slog.String("repo", repo.String()))
	}
	a.log.LogAttrs(r.Context(), slog.LevelWarn, "login", attrs...)
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
	case errors.Is(err, errRefusedThere) && !a.pass.believes(c.login, repo.Upstream):
		return &oci.Error{Code: errcode.ErrorCodeDenied, Message: fmt.Sprintf("%s refuses %s to %s, or to this password", repo.Upstream, repo, c.id), Err: err}
	case errors.Is(err, errRefusedThere):
		return &oci.Error{Code: errcode.ErrorCodeDenied, Message: fmt.Sprintf("%s lets %s in, and refuses %s to them", repo.Upstream, c.id, repo), Err: err}
	case errors.Is(err, ErrRefused) && c.id.known(): // who it is, is known; another login would not be passed on
		return &oci.Error{Code: errcode.ErrorCodeDenied, Message: fmt.Sprintf("%s is not public, and %s is no user of %s", repo, c.id, repo.Upstream), Err: err}
	case errors.Is(err, ErrRefused):
		e := a.unauthorized(r, scopeOf(repo, oci.ActionPull), "", fmt.Sprintf("%s refuses %s to this caller: log in here with the credentials for %s", repo.Upstream, repo, repo.Upstream))
		e.Err = err
		return e
	default:
		return awayError(repo, err)
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
