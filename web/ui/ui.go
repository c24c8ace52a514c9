package ui

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
	"github.com/sociable/sociable/web/catalog"
	"github.com/sociable/sociable/web/series"
	"github.com/sociable/sociable/web/trouble"
)

// Ranges reads blobs, fetching what is not here; *proxy.Proxy is one.
type Ranges interface {
	ReadRange(ctx context.Context, repo oci.Repo, d digest.Digest, r oci.Range, w io.Writer) error
}

// Bundles writes and reads what crosses a gap. Its errors are of package oci where
// the caller is to know what is wrong.
type Bundles interface {
	// Export writes a bundle as the answer, or gives an error before its first byte.
	Export(w http.ResponseWriter, r *http.Request, q web.ExportRequest) error
	// Import takes the images of the bundle that is the request's body.
	Import(r *http.Request, o web.ImportOptions) (*web.ImportReport, error)
}

// Upstream is a registry that images come from, for the Setup page.
type Upstream struct {
	Name    string `json:"name"`
	Hosted  bool   `json:"hosted,omitempty"`
	Offline bool   `json:"offline,omitempty"`
}

// Options are what a UI is made of. Store, Gatherer, Catalog, Recorder and
// Trouble are required.
type Options struct {
	Store     *storage.Store
	Gatherer  prometheus.Gatherer
	Catalog   *catalog.Catalog
	Recorder  *series.Recorder
	Trouble   *trouble.Log
	Ranges    Ranges                                                             // nil: only what is here can be read
	Running   func() []oci.Building                                              // nil: nothing is ever being indexed
	Wake      func()                                                             // called when jobs were changed; nil: nobody waits
	Health    func() []web.Health                                                // of the upstreams; nil: not known
	Upstreams func() []Upstream                                                  // nil: none
	Test      func(ctx context.Context, ref string) []Step                       // walks the way of a client; nil: no test
	Name      func(word string) (oci.Repo, oci.Reference, error)                 // reads an image's name in any spelling; nil: no test
	Warm      func(http.ResponseWriter, *http.Request, web.WarmRequest) error    // answers with lines of web.WarmEvent; nil: nothing is pulled
	GC        func(http.ResponseWriter, *http.Request, web.GCRequest) error      // answers with lines of web.GCEvent; nil: there is none
	Fsck      func(http.ResponseWriter, *http.Request, web.CheckRequest) error   // answers with lines of web.CheckEvent; nil: there is none
	Bundles   Bundles                                                            // nil: nothing is exported or imported here
	Immutable func(repo oci.Repo, tag string) bool                               // tags that are purged by force alone; nil: none
	Listen    string                                                             // host:port of the registry
	TLS       bool                                                               // the registry speaks it
	Default   string                                                             // upstream of names without one
	Version   string                                                             // of the program
	Hosts     []string                                                           // names by which requests may come, where nobody logs in; see onlyHere
	Open      func() bool                                                        // whether nobody logs in, since only this machine reaches the listener; nil: somebody does
	Who       func(*http.Request) string                                         // who has logged in; nil: nobody does
	Login     func(r *http.Request, user, password string) (*http.Cookie, error) // nil: there is no login
	Logout    func(r *http.Request)                                              // ends the session; nil: the browser forgets it
	Cookie    string                                                             // its name
	Logger    *slog.Logger                                                       // nil discards
	Now       func() time.Time                                                   // nil: time.Now

	// Namespaces tells how full the hosted namespaces are; nil: there are none.
	Namespaces func(ctx context.Context) ([]storage.NamespaceUse, error)
}

// Step is one step of a test, in words, as `sociable doctor --json` has it.
type Step struct {
	Step    string        `json:"step"`              // one word: dns, connect, tls …
	Verdict string        `json:"verdict"`           // ok, warn or fail
	What    string        `json:"what"`              // what was seen
	Mend    string        `json:"mend,omitempty"`    // what to do about it; absent where all is well
	Took    time.Duration `json:"took_ns,omitempty"` // nanoseconds; absent: nothing was waited for
}

// UI answers. It is safe for concurrent use.
type UI struct {
	opt     Options
	log     *slog.Logger
	now     func() time.Time
	trees   *trees
	notices *notices
	jobs    jobsCache
	filed   atomic.Int64 // when reads were filed last, Unix nanoseconds
}

// New makes a UI.
func New(o Options) *UI {
	u := &UI{opt: o, log: o.Logger, now: o.Now, trees: newTrees(), notices: newNotices()}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	if u.now == nil {
		u.now = time.Now
	}
	return u
}

// Handler answers all paths but those of web.Public.
func (u *UI) Handler() http.Handler {
	m := mux.NewRouter()
	m.PathPrefix("/assets/").Methods(http.MethodGet, http.MethodHead).HandlerFunc(u.asset)
	u.pages(m)
	u.api(m)
	m.NotFoundHandler = u.page(func(*http.Request) (string, any, error) {
		return "", nil, &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusNotFound, Message: "there is no such page"}
	})
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(oci.Handler(func(http.ResponseWriter, *http.Request) error {
		return oci.NewError(errcode.ErrorCodeDenied, "another site's page may not change anything here")
	}))
	return u.onlyHere(guard.Handler(headers(m)))
}

// policy lets pages run and show what is embedded, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// onlyHere refuses requests for other names than this machine's own, where no
// login protects what is here: a page of another site whose name was made to lead
// to this machine would otherwise be read to its owner's browser as ours.
func (u *UI) onlyHere(next http.Handler) http.Handler {
	return oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if host := hostOf(r.Host); u.open() && !u.ownName(host) {
			return &oci.Error{Code: errcode.ErrorCodeDenied, Status: http.StatusMisdirectedRequest, Message: "this listener answers to the names of this machine, not to " +
				strings.ToValidUTF8(host, "?") + "; admin.hosts allows further ones"}
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

func (u *UI) open() bool { return u.opt.Open != nil && u.opt.Open() }

func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func (u *UI) ownName(host string) bool {
	host = strings.ToLower(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	for _, h := range append([]string{"localhost", hostOf(u.opt.Listen)}, u.opt.Hosts...) {
		if host == strings.ToLower(h) {
			return true
		}
	}
	return strings.HasSuffix(host, ".localhost")
}

// readsFresh is how old what is shown of clients' reads may be.
const readsFresh = 2 * time.Second

// fresh has what clients read so far filed, so that it is shown.
func (u *UI) fresh(ctx context.Context) {
	now, last := u.now().UnixNano(), u.filed.Load()
	if now-last < int64(readsFresh) && now >= last || !u.filed.CompareAndSwap(last, now) {
		return
	}
	if err := u.opt.Store.FileReads(context.WithoutCancel(ctx)); err != nil {
		u.log.WarnContext(ctx, "what clients read is not filed", "err", err)
	}
}
