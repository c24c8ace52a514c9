package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"

	"github.com/sociable/sociable/internal/oci"
)

// Control is what the owner of a running server can have it do.
type Control interface {
	// Reload reads the configuration again. An error says that nothing changed,
	// with a line for each mistake.
	Reload(ctx context.Context) (Reloaded, error)
	// AdminToken makes a token that may administer this server.
	AdminToken(ttl time.Duration) (token string, until time.Time, err error)
}

// Reloaded is what came of reading the configuration again.
type Reloaded struct {
	Warnings []string `json:"warnings"`
	Restart  []string `json:"restart"` // keys that changed and wait for a restart
}

// AdminToken is a token for the admin listener.
type AdminToken struct {
	Token string    `json:"token"`
	Until time.Time `json:"until"`
}

// TokenRequest asks for one.
type TokenRequest struct {
	Seconds int64 `json:"seconds"`
}

func (s *Web) controlRoutes(post *mux.Router) {
	if s.opt.Control == nil {
		return
	}
	post.Path("/api/v1/reload").Handler(oci.Handler(s.reload))
	post.Path("/api/v1/token").Handler(oci.Handler(s.token))
}

func (s *Web) reload(w http.ResponseWriter, r *http.Request) error {
	out, err := s.opt.Control.Reload(r.Context())
	if err != nil {
		return wrong(err)
	}
	return sendJSON(w, out)
}

func (s *Web) token(w http.ResponseWriter, r *http.Request) error {
	var q TokenRequest
	if err := receive(w, r, &q); err != nil {
		return err
	}
	if q.Seconds < 1 || q.Seconds > int64((365*24*time.Hour)/time.Second) {
		return wrong(errors.New("want a number of seconds"))
	}
	raw, until, err := s.opt.Control.AdminToken(time.Duration(q.Seconds) * time.Second)
	if err != nil {
		return wrong(err)
	}
	s.log.InfoContext(r.Context(), "admin token made", "until", until.UTC())
	return sendJSON(w, AdminToken{raw, until})
}

// wrong is a mistake of the operator's, in its own words.
func wrong(err error) error {
	return &oci.Error{Code: errcode.ErrorCodeNameInvalid, Message: err.Error(), Err: err}
}
