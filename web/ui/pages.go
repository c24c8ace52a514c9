package ui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"github.com/sociable/sociable/internal/oci"
)

// filled makes a page of one value.
func filled[T any](name string, get func(*http.Request) (*T, error)) func(*http.Request) (string, any, error) {
	return func(r *http.Request) (string, any, error) {
		v, err := get(r)
		return name, v, err
	}
}

func (u *UI) pages(m *mux.Router) {
	get := m.Methods(http.MethodGet, http.MethodHead).Subrouter()
	get.Path("/").Handler(u.page(filled("overview", u.overview)))
	get.Path("/images").Handler(u.page(filled("images", u.images)))
	get.Path("/images/{digest}").Handler(u.page(filled("image", u.imagePage)))
	get.Path("/layers/{digest}").Handler(u.page(u.layerPage))
	get.Path("/layers/{digest}/files").Handler(u.page(filled("files", u.files)))
	get.Path("/jobs").Handler(u.page(func(r *http.Request) (string, any, error) {
		j, err := u.allJobs(r.Context())
		return "jobs", &j, err
	}))
	get.Path("/missing").Handler(u.page(filled("missing", u.missing)))
	get.Path("/setup").Handler(u.page(u.setupPage))
	get.Path("/login").Handler(u.page(u.loginPage))
	m.Methods(http.MethodPost).Path("/login").Handler(u.loginForm())
	m.Methods(http.MethodPost).Path("/logout").HandlerFunc(u.logout)
	m.Methods(http.MethodPost).Path("/jobs/retry").Handler(u.retryForm())
	u.actionForms(m.Methods(http.MethodPost).Subrouter())
	m.Methods(http.MethodPost).Path("/setup").Handler(u.setupForm())
}

// LayerPage is a layer with its first files and checkpoints.
type LayerPage struct {
	*LayerView
	Files       *Files
	NoFiles     string
	Checkpoints *Checkpoints
}

func (u *UI) layerPage(r *http.Request) (string, any, error) {
	v, err := u.layer(r)
	if err != nil {
		return "", nil, err
	}
	p := &LayerPage{LayerView: v}
	switch p.Files, err = u.list(r, v); {
	case errors.Is(err, errNoFiles):
		p.NoFiles = errNoFiles.Error()
	case err != nil:
		return "", nil, err
	}
	p.Checkpoints, err = u.checkpoints(r)
	return "layer", p, err
}

// SetupPage is Setup with one client picked, and a test's result.
type SetupPage struct {
	*Setup
	Picked ClientSetup
	Result *TestResult
	Tested string // the image, as it was typed
	Fault  string // of its name
}

func (u *UI) setupPage(r *http.Request) (string, any, error) {
	s, err := u.setup(r)
	if err != nil {
		return "", nil, err
	}
	p := &SetupPage{Setup: s, Picked: s.Clients[0]}
	if id := r.FormValue("client"); id != "" {
		found := false
		for _, c := range s.Clients {
			if c.ID == id {
				p.Picked, found = c, true
			}
		}
		if !found {
			return "", nil, bad("there is no client %.50q", id)
		}
	}
	return "setup", p, nil
}

// setupForm tests an image. What is wrong with its name is said beside it.
func (u *UI) setupForm() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, body, err := u.setupPage(r)
		if err != nil {
			e := oci.AsError(err)
			u.render(w, r, e.HTTPStatus(), "error", e)
			return
		}
		p, status := body.(*SetupPage), http.StatusOK
		p.Tested = strings.TrimSpace(r.FormValue("image"))
		if p.Result, err = u.test(r, p.Tested); err != nil {
			e := oci.AsError(err)
			status, p.Fault = e.HTTPStatus(), e.Message
		}
		u.render(w, r, status, name, p)
	})
}

// LoginPage asks who it is.
type LoginPage struct {
	Fault string
	User  string
	Next  string // where one was going
}

func (u *UI) loginPage(r *http.Request) (string, any, error) {
	return "login", &LoginPage{Next: pageHere(r.FormValue("next"))}, nil
}

// pageHere is next where that is a page of this dashboard, or else the first page:
// a link must not lead from here to another site.
func pageHere(next string) string {
	at, err := url.Parse(next)
	if err != nil || at.Scheme != "" || at.Host != "" || at.User != nil || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.Contains(next, `\`) || at.Path == "/login" {
		return "/"
	}
	return next
}

func (u *UI) loginForm() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u.opt.Login == nil || u.open() {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 32<<10)
		cookie, err := u.opt.Login(r, r.PostFormValue("user"), r.PostFormValue("password"))
		if err != nil {
			e := oci.AsError(err)
			u.render(w, r, e.HTTPStatus(), "login", &LoginPage{e.Message, r.PostFormValue("user"), pageHere(r.PostFormValue("next"))})
			return
		}
		http.SetCookie(w, cookie)
		http.Redirect(w, r, pageHere(r.PostFormValue("next")), http.StatusSeeOther)
	})
}

func (u *UI) logout(w http.ResponseWriter, r *http.Request) {
	if u.opt.Logout != nil {
		u.opt.Logout(r)
	}
	http.SetCookie(w, &http.Cookie{Name: u.opt.Cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
