package access

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// AdminToken signs a token that may administer the proxy, for ttl, which is
// bounded by MaxTokenTTL. It is for whoever owns the data folder.
func (a *Access) AdminToken(ttl time.Duration) (raw string, until time.Time, err error) {
	if ttl <= 0 || ttl > MaxTokenTTL {
		return "", time.Time{}, fmt.Errorf("a token lives for up to %s", MaxTokenTTL)
	}
	now := a.now()
	c := claims{Via: ViaOperator}
	c.Subject = "operator"
	raw, err = a.opt.Keys.mint(c, adminToken, now, ttl)
	return raw, now.Add(ttl), err
}

// Administered lets those through to next who may administer the proxy: by a
// password, a certificate, a token of AdminToken or a session of AdminLogin. What
// free reports needs no login. ask may answer those who have to log in, instead of
// a challenge, and tells whether it did; nil: it never does.
func (a *Access) Administered(next http.Handler, free func(*http.Request) bool, ask func(http.ResponseWriter, *http.Request) bool) http.Handler {
	return oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		r = a.Forwarded(r)
		if !free(r) {
			id, err := a.mayAdminister(r)
			if err != nil && oci.AsError(err).HTTPStatus() == http.StatusUnauthorized && ask != nil && ask(w, r) {
				return nil
			}
			if err != nil {
				return err
			}
			r = withAdmin(r, id)
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

func (a *Access) mayAdminister(r *http.Request) (Identity, error) {
	c := &caller{}
	cred, err := parseAuthorization(r.Header)
	switch {
	case err != nil:
		c.err = a.unauthorized(r, "", "", err.Error())
	case cred.token != "":
		a.byToken(r, c, cred.token, adminToken)
	case cred.user != "":
		c.id, c.err = a.byPassword(r, cred)
	case a.byCookie(r, c):
	default:
		c.id = a.byConnection(r)
	}
	err = c.err
	switch {
	case err != nil:
	case a.policy.Load().administers(c.id):
	case c.id.known():
		err = oci.NewError(errcode.ErrorCodeDenied, "%s may not administer this proxy", c.id)
	default:
		err = a.unauthorized(r, "", "", "authentication required")
	}
	a.auditAdmin(r, c, err)
	return c.id, loginError(err)
}

// auditAdmin writes who did what. Reading, which a scraper does all the time, is
// not worth a line.
func (a *Access) auditAdmin(r *http.Request, c *caller, err error) {
	decision, level := "allowed", slog.LevelInfo
	switch {
	case err != nil && c.id.Name == "" && c.err == nil:
		decision, level = "asked to log in", slog.LevelDebug
	case errors.Is(err, errWrongPassword): // of which the line "login" warns
		decision = "refused"
	case err != nil:
		decision, level = "refused", slog.LevelWarn
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		level = slog.LevelDebug
	}
	a.metrics.decision(oci.ActionAdminister, decision)
	a.log.Log(r.Context(), level, "access", "user", oci.Clip(c.id.String(), 200), "via", c.id.Via, "action", string(oci.ActionAdminister),
		"method", r.Method, "path", oci.Clip(r.URL.Path, 1000), "decision", decision, "client", r.RemoteAddr)
}
