package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// What follows are the buttons of the Image page: the commands of the same names,
// as forms. Each ends in a page that says what was done; what can't be done is said
// on the page of the image.

// ImagePage is an image with what can be done about it.
type ImagePage struct {
	*Image
	Fault     string // why what was asked for was not done
	Warms     bool   // it can be brought here
	Pushed    bool   // to here: it is nowhere else
	Immutable bool   // a tag of it is
}

func (u *UI) imagePage(r *http.Request) (*ImagePage, error) {
	x, err := u.image(r)
	if err != nil {
		return nil, err
	}
	p := &ImagePage{Image: x, Warms: u.opt.Warm != nil && x.Repository != ""}
	repo, err := oci.ParseRepo(x.Repository)
	if err != nil { // it was seen in none
		return p, nil //nolint:nilerr // such an image has no tags to show
	}
	for _, tag := range x.Tags {
		p.Immutable = p.Immutable || u.opt.Immutable != nil && u.opt.Immutable(repo, tag)
	}
	if u.opt.Upstreams != nil {
		for _, up := range u.opt.Upstreams() {
			p.Pushed = p.Pushed || up.Hosted && up.Name == repo.Upstream
		}
	}
	return p, nil
}

// ByDigest names the image and no other, wherever its tags lead.
func (x *Image) ByDigest() string { return x.Repository + "@" + x.Manifest.String() }

// action does something about the image that is looked at, and says which page to
// go to then, and what was done.
type action func(u *UI, r *http.Request, x *Image) (notice, error)

var actions = map[string]action{
	"pin": func(u *UI, r *http.Request, x *Image) (notice, error) {
		_, err := web.PinImage(r.Context(), u.opt.Store, x.Reference)
		return notice{x.page(), pinnedWords}, err
	},
	"unpin": func(u *UI, r *http.Request, x *Image) (notice, error) {
		_, err := web.Unpin(r.Context(), u.opt.Store, r.PostFormValue("name"))
		return notice{x.page(), unpinnedWords}, err
	},
	"refresh": func(u *UI, r *http.Request, x *Image) (notice, error) {
		_, err := web.Refresh(r.Context(), u.opt.Store, x.Reference)
		return notice{x.page(), refreshedWords}, err
	},
	"warm":  (*UI).warmImage,
	"purge": (*UI).purgeImage,
}

func (x *Image) page() string { return "/images/" + x.Manifest.String() }

func (u *UI) purgeImage(r *http.Request, x *Image) (notice, error) {
	q := web.PurgeRequest{Name: x.Reference, Block: r.PostFormValue("block") != "", Force: r.PostFormValue("force") != ""}
	p, err := web.Purge(r.Context(), u.opt.Store, q, u.opt.Immutable)
	if err != nil {
		return notice{}, err
	}
	return notice{"/images", purgedWords(p)}, nil
}

// warmImage brings an image here, for a page whose script does not: that one reads
// how far it is, too. It takes as long as that takes.
func (u *UI) warmImage(r *http.Request, x *Image) (notice, error) {
	if u.opt.Warm == nil {
		return notice{}, errNothingPulled
	}
	w := &lastLine{header: http.Header{}}
	if err := u.opt.Warm(w, r, web.WarmRequest{Name: x.ByDigest()}); err != nil {
		return notice{}, err
	}
	var last web.WarmEvent
	if err := json.Unmarshal(w.line, &last); err != nil {
		return notice{}, fmt.Errorf("read how it ended: %w", err)
	}
	if last.Error != "" {
		return notice{}, &oci.Error{Code: errcode.ErrorCodeUnavailable, Message: last.Error}
	}
	return notice{x.page(), warmedWords}, nil
}

// lastLine is the last of an answer's lines, each of which is written at once.
type lastLine struct {
	header http.Header
	line   []byte
}

func (w *lastLine) Header() http.Header { return w.header }
func (w *lastLine) WriteHeader(int)     {}
func (w *lastLine) Write(p []byte) (int, error) {
	w.line = bytes.Clone(p)
	return len(p), nil
}

// actionForms are the forms of the Image page.
func (u *UI) actionForms(post *mux.Router) {
	for name, do := range actions {
		post.Path("/images/{digest}/" + name).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 32<<10)
			p, err := u.imagePage(r)
			if err != nil {
				e := oci.AsError(err)
				if e.HTTPStatus() == http.StatusNotFound { // its page had the button
					e.Message = "This image is no longer here: it was purged, or nothing needed it any more, since its page was made"
				}
				u.render(w, r, e.HTTPStatus(), "error", e)
				return
			}
			next, err := do(u, r, p.Image)
			if err != nil {
				e := oci.AsError(web.OperatorError(err))
				p.Fault = e.Message
				if e.HTTPStatus() >= http.StatusInternalServerError {
					u.log.ErrorContext(r.Context(), "not done by the dashboard", "command", name, "image", p.Reference, "err", err)
				}
				u.render(w, r, e.HTTPStatus(), "image", p)
				return
			}
			u.log.InfoContext(r.Context(), "done by the dashboard", "command", name, "name", p.Reference, "digest", p.Manifest)
			u.notices.leads(w, r, next.path, next.words)
		})
	}
}

// pinsOf gives the names by which an image is pinned.
func pinsOf(tx storage.Tx, manifest digest.Digest) (names []string, err error) {
	err = tx.PinsOf(manifest, func(row storage.PinRow) error {
		names = append(names, row.Reference)
		return nil
	})
	return names, err
}

// retryForm has a job tried again, or all that failed, and shows the queue.
func (u *UI) retryForm() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := u.change(r.Context(), r.FormValue("id"), web.RetryJob)
		if err != nil {
			u.render(w, r, oci.AsError(err).HTTPStatus(), "error", oci.AsError(err))
			return
		}
		u.notices.leads(w, r, "/jobs", retriedWords(c.Jobs))
	})
}

// titleOf is a reference short enough for a line: one by digest has the digest's
// first digits.
func titleOf(ref string) string {
	name, d, ok := strings.Cut(ref, "@")
	if !ok {
		return ref
	}
	return name + "@" + short(digest.Digest(d))
}

// Button is a form of one button.
type Button struct{ Do, Name, ID, Text, Title string }

// Buttons are those that need no question.
func (p *ImagePage) Buttons() (list []Button) {
	if len(p.Pins) == 0 {
		list = append(list, Button{"pin", "", "do-pin", "Pin", "never evict it"})
	}
	for i, name := range p.Pins {
		b := Button{"unpin", name, "do-pin", "Unpin", "let it be evicted; it is pinned as " + name}
		if len(p.Pins) > 1 {
			b.Text += " " + name
		}
		if i > 0 {
			b.ID += "-" + strconv.Itoa(i)
		}
		list = append(list, b)
	}
	if len(p.Tags) > 0 && !p.Pushed {
		list = append(list, Button{"refresh", "", "do-refresh", "Refresh", "have the next request for the tag ask its upstream where it leads"})
	}
	return list
}
