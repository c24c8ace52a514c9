package access

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// AdminCookie is the name of the cookie in which a browser has its token for the
// admin listener.
const AdminCookie = "sociable-session"

// sessionTTL is for how long a browser stays logged in.
const sessionTTL = 12 * time.Hour

// AdminLogin gives a browser's session to who may administer the proxy: a user
// with a password, or with user "" a token of AdminToken. The error is an
// *oci.Error for people. Who loses the right, or has another password, is out at
// the next request.
func (a *Access) AdminLogin(r *http.Request, user, password string) (*http.Cookie, error) {
	c := &caller{}
	raw, ttl := password, time.Duration(0)
	if user == "" {
		a.byToken(r, c, strings.TrimSpace(password), adminToken)
		raw = strings.TrimSpace(password)
	} else {
		c.id, c.err = a.byPassword(r, credentials{user: user, password: password})
	}
	err := c.err
	if err == nil && !a.policy.Load().administers(c.id) {
		err = oci.NewError(errcode.ErrorCodeDenied, "%s may not administer this proxy", c.id)
	}
	if err == nil && user != "" {
		raw, err = a.session(user)
		ttl = sessionTTL
	}
	a.auditAdmin(r, c, err)
	if err != nil {
		return nil, loginError(err)
	}
	return &http.Cookie{
		Name: AdminCookie, Value: raw, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(ttl / time.Second),
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}, nil
}

// session is a token that stands for a user's password.
func (a *Access) session(user string) (string, error) {
	hash, ok := a.hash(user)
	if !ok {
		return "", oci.NewError(errcode.ErrorCodeUnauthorized, "wrong user or password")
	}
	c := claims{Via: ViaPassword, Proof: proofOf(hash)}
	c.Subject = user
	return a.opt.Keys.mint(c, adminToken, a.now(), sessionTTL)
}

// byCookie is who logged in with a browser; false where nobody did.
func (a *Access) byCookie(r *http.Request, c *caller) bool {
	k, err := r.Cookie(AdminCookie)
	if err != nil || k.Value == "" || len(k.Value) > maxAuthorization {
		return false
	}
	if a.ended.Contains(sha256.Sum256([]byte(k.Value))) {
		return false
	}
	a.byToken(r, c, k.Value, adminToken)
	return true
}

// maxEnded bounds how many sessions are remembered as logged out.
const maxEnded = 10_000

// AdminLogout ends the browser's session, also for who has a copy of its cookie,
// until the server restarts. A token of AdminToken stays good elsewhere.
func (a *Access) AdminLogout(r *http.Request) {
	if k, err := r.Cookie(AdminCookie); err == nil && k.Value != "" {
		a.ended.Add(sha256.Sum256([]byte(k.Value)), struct{}{})
	}
}

type adminKey struct{}

// AdminName is who administers by r, as Administered found out; "" where nobody
// had to say.
func AdminName(r *http.Request) string {
	name, _ := r.Context().Value(adminKey{}).(string)
	return name
}

func withAdmin(r *http.Request, id Identity) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), adminKey{}, id.String()))
}
