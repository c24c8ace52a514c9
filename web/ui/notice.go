package ui

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sociable/sociable/web"
)

// What a form did is said by the page that its answer leads to, once: the words
// wait here, under a name that nobody can guess and that the browser gets as a
// cookie. Nothing in an address has a page say anything, so that neither a bookmark
// nor a link that somebody sends tells of what was not done.

// noticeCookie has the name of the words that wait for a browser.
const noticeCookie = "sociable-done"

// notice are the words of what was done, for the page of a path.
type notice struct{ path, words string }

// notices wait to be said. It is safe for concurrent use.
type notices struct{ kept *lru.Cache[string, notice] }

// keptNotices bounds those that no browser came for.
const keptNotices = 256

func newNotices() *notices {
	kept, err := lru.New[string, notice](keptNotices)
	if err != nil {
		panic(err) // the number is wrong
	}
	return &notices{kept}
}

// leads sends a browser to the page of path, which then says words.
func (n *notices) leads(w http.ResponseWriter, r *http.Request, path, words string) {
	name := rand.Text()
	n.kept.Add(name, notice{path, words})
	http.SetCookie(w, noticed(r, name, 60))
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// noticed is the cookie of a notice; with seconds below zero the browser forgets it.
func noticed(r *http.Request, name string, seconds int) *http.Cookie {
	return &http.Cookie{
		Name: noticeCookie, Value: name, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}

// warmedHeader is sent by our own script, which brought an image here by the API and
// now asks for its page. Neither a link nor another site's page can send it.
const warmedHeader = "Sociable-Warmed"

// said gives what the page that r asks for has to say, and forgets it. A page that
// asks for itself again every few seconds (#live) leaves the words to whoever
// pressed the button.
func (n *notices) said(w http.ResponseWriter, r *http.Request) string {
	if r.Method != http.MethodGet || r.Header.Get("Hx-Trigger") == "live" {
		return ""
	}
	if r.Header.Get(warmedHeader) != "" {
		return warmedWords
	}
	k, err := r.Cookie(noticeCookie)
	if err != nil {
		return ""
	}
	x, ok := n.kept.Peek(k.Value)
	if !ok || x.path != r.URL.Path || !n.kept.Remove(k.Value) { // or somebody else was quicker
		return ""
	}
	http.SetCookie(w, noticed(r, "", -1))
	return x.words
}

const (
	pinnedWords    = "Pinned: it is never evicted, and what is not here yet of it is kept once it comes."
	unpinnedWords  = "Unpinned: like any other image, it is evicted when room is needed, unless it was pushed here."
	refreshedWords = "The next request for the tag asks its upstream where it leads."
	warmedWords    = "All of it is here."
)

func retriedWords(jobs int) string { return many(jobs, "job") + " will be tried again" }

func purgedWords(p web.Purged) string {
	s := fmt.Sprintf("Purged %s: %s, %s.", short(p.Digest), many(p.Blobs, "blob"), size(p.Freed))
	if len(p.Blocked) > 0 {
		s += " It is kept out until sociable unblock."
	}
	return s
}

// many is a number of things: "1 blob", "2 blobs".
func many(n any, thing string) string {
	s := thousands(fmt.Sprint(n))
	if s != "1" {
		thing += "s"
	}
	return s + " " + thing
}
