package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

//go:embed assets templates
var embedded embed.FS

// assets are the embedded files by name, with a hash of each: their URLs change
// with them, so that browsers keep them for good.
var assets = loadAssets()

type assetFile struct {
	body []byte
	hash string
	kind string
}

func loadAssets() map[string]assetFile {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	all := map[string]assetFile{}
	err := fs.WalkDir(embedded, "assets", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || kinds[path.Ext(p)] == "" {
			return err
		}
		body, err := embedded.ReadFile(p)
		sum := sha256.Sum256(body)
		all[path.Base(p)] = assetFile{body, hex.EncodeToString(sum[:6]), kinds[path.Ext(p)]}
		return err
	})
	if err != nil {
		panic(err) // it is in the binary
	}
	return all
}

func assetURL(name string) string { return "/assets/" + name + "?v=" + assets[name].hash }

func (u *UI) asset(w http.ResponseWriter, r *http.Request) {
	f, ok := assets[path.Base(r.URL.Path)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Etag", `"`+f.hash+`"`)
	if r.URL.Query().Get("v") == f.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

// pageNames are the templates that fill base.html.
var pageNames = []string{"overview", "images", "image", "layer", "files", "jobs", "missing", "setup", "login", "error"}

var templates = loadTemplates()

func loadTemplates() map[string]*template.Template {
	all := map[string]*template.Template{}
	base := template.Must(template.New("base.html").Funcs(functions).ParseFS(embedded, "templates/base.html", "templates/parts.html"))
	for _, name := range pageNames {
		all[name] = template.Must(template.Must(base.Clone()).ParseFS(embedded, "templates/"+name+".html"))
	}
	return all
}

var functions = template.FuncMap{
	"asset": assetURL,
	"size":  size,
	"count": func(n any) string { return thousands(fmt.Sprint(n)) },
	"many":  many,
	"percent": func(v any) string {
		switch x := v.(type) {
		case *float64:
			if x == nil {
				return "–"
			}
			return percent(*x)
		case float64:
			return percent(x)
		}
		return ""
	},
	"share": func(n, of int64) float64 {
		if of <= 0 {
			return 0
		}
		return float64(n) / float64(of)
	},
	"short":   short,
	"shorter": func(ref string) string { return short(digest.Digest(ref)) }, // a tag stays as it is
	"title":   titleOf,
	"int64":   func(n int) int64 { return int64(n) },
	"add":     func(a, b int) int { return a + b },
	"stamp":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"query":   query,
	"depth":   func(p string) int { return strings.Count(p, "/") },
}

func short(d digest.Digest) string {
	a, h, ok := strings.Cut(string(d), ":")
	if !ok || len(h) < 12 {
		return string(d)
	}
	return a + ":" + h[:12]
}

func thousands(s string) string {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return s
	}
	s = strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// query makes a query string of names and values; empty values are left out.
func query(pairs ...any) (template.URL, error) {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if s := fmt.Sprint(pairs[i+1]); s != "" && s != "0" {
			v.Set(fmt.Sprint(pairs[i]), s)
		}
	}
	return template.URL(v.Encode()), nil //nolint:gosec // it is encoded
}

// Page is what base.html is filled with.
type Page struct {
	Title    string
	Path     string
	Who      string
	Login    bool
	Open     bool
	Version  string
	Now      time.Time
	Registry string
	Test     bool
	Done     string // what was done before it was come to
	Swapped  bool   // into a page that is there already
	Body     any
}

// BelowImages reports whether it is a page that one comes to by the list of images.
func (p Page) BelowImages() bool {
	return strings.HasPrefix(p.Path, "/images/") || strings.HasPrefix(p.Path, "/layers/")
}

// Ago says in words how long ago t was.
func (p Page) Ago(t time.Time) string { return ago(p.Now, t) }

// page answers with a page of what make gives: the name of a template, and what
// it shows.
func (u *UI) page(fill func(*http.Request) (name string, body any, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, body, err := fill(r)
		status := http.StatusOK
		if err != nil {
			e := oci.AsError(err)
			if e.HTTPStatus() >= http.StatusInternalServerError {
				u.log.ErrorContext(r.Context(), "page not made", "path", r.URL.Path, "err", err)
			}
			status, name, body = e.HTTPStatus(), "error", e
		}
		u.render(w, r, status, name, body)
	})
}

var titles = map[string]string{
	"overview": "Overview", "images": "Images", "image": "Image", "layer": "Layer", "files": "Files", "jobs": "Jobs", "missing": "Missing",
	"setup": "Setup", "login": "Log in", "error": "Error",
}

func (u *UI) render(w http.ResponseWriter, r *http.Request, status int, name string, body any) {
	p := Page{
		Title: titles[name], Path: r.URL.Path, Version: u.opt.Version, Now: u.now(), Open: u.open(),
		Login: u.opt.Login != nil && !u.open(), Registry: u.place(r).Address, Test: u.opt.Test != nil, Done: u.notices.said(w, r),
		Swapped: r.Header.Get("Hx-Request") != "", Body: body,
	}
	if u.opt.Who != nil {
		p.Who = u.opt.Who(r)
	}
	part := "base.html"
	if name == "files" && p.Swapped {
		part = "main"
	}
	var out bytes.Buffer
	if err := templates[name].ExecuteTemplate(&out, part, p); err != nil {
		u.log.ErrorContext(r.Context(), "page not made", "path", r.URL.Path, "err", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(out.Len()))
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // a client that left is nobody's loss
}
