package access

import (
	"net/http"

	"github.com/sociable/sociable/internal/oci"
)

// Lists reports whether the caller of r, which asks for a list of repositories, is
// to find repo there: who may pull from it. A token of ours that is for the list
// need not be for each of them besides.
func (a *Access) Lists(r *http.Request, repo oci.Repo) bool {
	c, p := a.caller(r), a.policy.Load()
	if c.err == nil && c.token != nil && !c.theirs && list(*c.token) && p.Upstreams[repo.Upstream] != Passthrough {
		return p.allows(c.id, repo, oci.ActionPull)
	}
	return a.Sees(r, repo)
}

// MayList is asked where Lists found nothing: an error says how somebody who logs
// in with our token service may find more. What a token server's tokens are for is
// up to that.
func (a *Access) MayList(r *http.Request) error {
	c, p := a.caller(r), a.policy.Load()
	switch {
	case c.err != nil:
		return c.err
	case p.Tokens != nil || !p.asksWho():
		return nil
	case c.token != nil && !list(*c.token):
		return a.unauthorized(r, catalogScope, "insufficient_scope", "the token is not for the list of repositories")
	case c.token == nil && c.id.Name == "":
		return a.unauthorized(r, catalogScope, "", "authentication required")
	}
	return nil
}
