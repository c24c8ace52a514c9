package access

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// minTokenTTL is the shortest life of a token that is worth giving out.
const minTokenTTL = 30 * time.Second

// logins are those of one caller with upstreams' credentials, for one token.
type logins struct {
	a       *Access
	r       *http.Request
	c       *caller
	named   bool // a scope names its upstream: those that name none are not meant
	tried   int
	good    int
	ttl     time.Duration
	refused error
	trouble error
}

// newLogins makes the login that is asked for by no scope, as docker login does:
// only where there can be no doubt whose credentials they are.
func (a *Access) newLogins(r *http.Request, c *caller, targets []target) *logins {
	l := &logins{a: a, r: r, c: c, ttl: tokenTTL}
	if c.cred.none() {
		return l
	}
	p := a.policy.Load()
	l.named = slices.ContainsFunc(targets, func(t target) bool { return t.explicit })
	if len(targets) == 0 {
		if up, ok := a.onlyUpstream(p, r.Host); ok {
			l.login(oci.Repo{Upstream: up})
		}
	}
	return l
}

// onlyUpstream is the upstream whose credentials a login without a name means:
// that of names without one, or else the only one.
func (a *Access) onlyUpstream(p *policy, host string) (string, bool) {
	if repo, err := a.opt.Resolve(host, "x"); err == nil && p.Upstreams[repo.Upstream] == Passthrough {
		return repo.Upstream, true
	}
	var found []string
	for name, m := range p.Upstreams {
		if m == Passthrough {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// to logs in for one target, and reports whether a token may be for it. Without
// credentials it may: the upstream will be asked what nobody may do there.
// Credentials never go to an upstream by default when a scope names another:
// clients ask for both spellings at once.
func (l *logins) to(t target) bool {
	if l.c.cred.none() {
		return true
	}
	if l.named && !t.explicit {
		return false
	}
	return l.login(t.repo)
}

func (l *logins) login(repo oci.Repo) bool {
	l.tried++
	err := l.a.loginUpstream(l.r, l.c, repo)
	switch {
	case err == nil:
		l.good++
		if s := l.a.pass.session(l.c.login, repo.Upstream); s != nil && repo.Name != "" {
			l.ttl = min(l.ttl, max(minTokenTTL, s.Until(repo.Name).Sub(l.a.now()).Truncate(time.Second)))
		}
		return true
	case l.a.pass.graced(l.c.login, repo, err, l.a.now()): // for what is cached
		l.good++
		l.ttl = minTokenTTL
		return true
	case errors.Is(err, errRefusedThere): // clients find out by what they are refused
		l.good++
	case errors.Is(err, ErrRefused):
		l.refused = loginError(l.a.unauthorized(l.r, "", "", repo.Upstream+" does not take this user and password"))
	default:
		l.trouble = l.a.passError(l.r, l.c, repo, err)
	}
	return false
}

// verdict is why there is no token at all: no upstream took the credentials.
func (l *logins) verdict() error {
	switch {
	case l.tried == 0 || l.good > 0:
		return nil
	case l.refused != nil:
		return l.refused
	default:
		return l.trouble
	}
}
