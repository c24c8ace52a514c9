package access

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// tokenPath is where our token service is.
const tokenPath = "/token"

// scopeOf is what a token must be for, for action in repo: always in the
// canonical spelling. Who may push is asked to be able to pull, too, because
// clients look first whether what they push is there.
func scopeOf(repo oci.Repo, action oci.Action) string {
	actions := string(action)
	if action == oci.ActionPush {
		actions = "pull,push"
	}
	return "repository:" + repo.String() + ":" + actions
}

// unauthorized is a 401 with a challenge (RFC 6750 §3; distribution project,
// "Token Authentication Specification"). scope and fault may be "".
func (a *Access) unauthorized(r *http.Request, scope, fault, message string) *oci.Error {
	var b strings.Builder
	realm, name := a.realm(r), service
	if s := a.policy.Load().Tokens; s != nil {
		realm, name = s.o.Realm, s.o.Service
	}
	b.WriteString(`Bearer realm="` + realm + `",service="` + name + `"`)
	if scope != "" {
		b.WriteString(`,scope="` + scope + `"`)
	}
	if fault != "" {
		b.WriteString(`,error="` + fault + `"`)
	}
	return &oci.Error{Code: errcode.ErrorCodeUnauthorized, Message: message, Challenge: b.String()}
}

// service is our name to token clients.
const service = "sociable"

// realm is where our tokens are had from, as r's client reaches us. A virtual
// host is kept: it says which upstream a name without one means.
func (a *Access) realm(r *http.Request) string {
	u := url.URL{Scheme: "http", Host: r.Host, Path: tokenPath}
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		u.Scheme = "https"
	}
	if s := a.policy.Load().Service; s != "" {
		if base, err := url.Parse(s); err == nil {
			u.Scheme, u.Host = base.Scheme, base.Host
		}
	}
	return u.String()
}
