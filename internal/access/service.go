package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// maxTokenRequest bounds the body of a POST.
const maxTokenRequest = 64 << 10

// serveToken is the token service of the distribution project: GET with Basic
// credentials or none ("Token Authentication Specification"), and POST with a
// form ("Oauth2 Token Authentication").
func (a *Access) serveToken(w http.ResponseWriter, r *http.Request) error {
	var c caller
	var values []string
	var err error
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		values = r.URL.Query()["scope"]
		a.identify(r, &c)
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
		values, err = a.identifyForm(r, &c)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST") // RFC 9110 §15.5.6
		return &oci.Error{Code: errcode.ErrorCodeUnsupported, Message: "tokens are had by GET or POST"}
	}
	if err != nil {
		return err
	}
	if c.err != nil {
		return loginError(c.err)
	}
	if c.token != nil { // a token can't be had for a token: it would never end
		return &oci.Error{Code: errcode.ErrorCodeUnauthorized, Message: "log in with a user and password, not with a token"}
	}
	scopes, err := parseScopes(values)
	if err != nil {
		return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusBadRequest, Message: err.Error()}
	}
	return a.sendToken(w, r, &c, scopes)
}

// loginError leaves out the challenge: who asks the token service knows it, and
// the way to log in there is Basic.
func loginError(err error) error {
	var e *oci.Error
	if !errors.As(err, &e) || e.Challenge == "" {
		return err
	}
	out := *e
	out.Challenge = `Basic realm="` + service + `"`
	return &out
}

// identifyForm reads a POST. A form's mistakes have the answers of RFC 6749
// §5.2, of which clients look at the status alone.
func (a *Access) identifyForm(r *http.Request, c *caller) (scopes []string, err error) {
	bad := func(format string, args ...any) error {
		return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	if err := r.ParseForm(); err != nil {
		return nil, bad("the body is not a form")
	}
	switch g := r.PostForm.Get("grant_type"); g {
	case "password":
		cred := credentials{user: r.PostForm.Get("username"), password: r.PostForm.Get("password")}
		if cred.user == "" {
			return nil, bad("the form has no username")
		}
		a.byCredentials(r, c, cred)
	case "refresh_token": // never given out
		c.err = &oci.Error{Code: errcode.ErrorCodeUnauthorized, Message: "refresh tokens are not given here: log in with a user and password"}
	default:
		return nil, bad("grant_type %q is not supported: use password", g)
	}
	return r.PostForm["scope"], nil
}

// sendToken grants what of scopes the caller may have. None of it is no error:
// clients find out by what they are refused.
func (a *Access) sendToken(w http.ResponseWriter, r *http.Request, c *caller, scopes []scope) error {
	now := a.now()
	t := claims{Via: c.id.Via, Groups: c.id.Groups}
	t.Subject = c.id.Name
	grants, ttl, err := a.grants(r, c, scopes)
	if err != nil {
		return err
	}
	t.Access = grants
	if c.login != (loginKey{}) {
		t.Login = c.login.String()
	}
	if hash, ok := a.hash(c.id.Name); ok && c.id.Via == ViaPassword {
		t.Proof = proofOf(hash)
	}
	raw, err := a.opt.Keys.mint(t, registryToken, now, ttl)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"token": raw, "access_token": raw, "expires_in": int(ttl / time.Second), "issued_at": now.UTC().Format(time.RFC3339),
	})
	if err != nil {
		return fmt.Errorf("encode a token: %w", err)
	}
	a.metrics.tokens.WithLabelValues(c.id.Via).Inc()
	a.log.DebugContext(r.Context(), "login", "user", oci.Clip(c.id.String(), 200), "via", c.id.Via, "decision", "token", "grants", len(t.Access), "client", r.RemoteAddr)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store") // RFC 6749 §5.1
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left is nobody's loss
	}
	return nil
}

// target is a scope whose repository was found.
type target struct {
	repo     oci.Repo
	wants    []oci.Action
	explicit bool // the scope itself names the upstream
}

func (a *Access) targets(host string, scopes []scope) (out []target) {
	for _, s := range scopes {
		wants := s.wants()
		if len(wants) == 0 || oci.CheckName(s.name) != nil {
			continue
		}
		repo, err := a.opt.Resolve(host, s.name)
		if err != nil {
			continue // nobody may do anything there
		}
		out = append(out, target{repo, wants, repo.Name != s.name && repo.Name != "library/"+s.name})
	}
	return out
}

// grants are the scopes that the caller may have, under their canonical names,
// and how long it may have them.
func (a *Access) grants(r *http.Request, c *caller, scopes []scope) (out []Grant, ttl time.Duration, err error) {
	p := a.policy.Load()
	targets := a.targets(r.Host, scopes)
	logins := a.newLogins(r, c, targets)
	out, ttl = []Grant{}, tokenTTL
	if slices.ContainsFunc(scopes, scope.lists) {
		out = append(out, listing()) // of what they may pull: see Lists
	}
	for _, t := range targets {
		g := Grant{Type: "repository", Name: t.repo.String()}
		through := p.Upstreams[t.repo.Upstream] == Passthrough
		if through && !logins.to(t) {
			continue
		}
		for _, w := range t.wants {
			pushes := w == oci.ActionPush && p.Pushed[t.repo.Upstream] && c.login != (loginKey{})
			if through && (w == oci.ActionPull || pushes) || !through && p.allows(c.id, t.repo, w) {
				g.Actions = append(g.Actions, string(w))
			}
		}
		if len(g.Actions) > 0 {
			out = append(out, g)
		}
	}
	return out, min(ttl, logins.ttl), logins.verdict()
}
