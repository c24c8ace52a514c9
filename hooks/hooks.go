package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

const (
	// Prefix is where hooks are: POST /hooks/UPSTREAM.
	Prefix = "/hooks/"
	// maxEvents bounds what one notification may tell of.
	maxEvents = 1000
)

// Queue files what is to be done about pushes.
type Queue interface {
	// Pushed files durably what is to be done, and gives of how many something is.
	// ErrFull.
	Pushed(ctx context.Context, pushes []oci.Pushed) (queued int, err error)
}

// ErrFull is wrapped by a Queue that can't take more now.
var ErrFull = errors.New("too much waits to be done")

// Options are what a Hooks is made of. Secrets and Queue are required.
type Options struct {
	// Secrets are those of an upstream, any of which will do; none: it has no hook.
	Secrets    func(upstream string) []string
	Queue      Queue
	Library    func(upstream string) bool // one-segment names live under library/
	Logger     *slog.Logger               // nil: nothing is logged
	Registerer prometheus.Registerer      // nil: nothing is measured
}

// Hooks answers POST /hooks/UPSTREAM. It is safe for concurrent use.
type Hooks struct {
	opt Options
	log *slog.Logger
	m   *metrics

	bodyTime time.Duration // see maxBodyTime
	signing  chan struct{} // cap maxSigned; whoever's token is in it reads a body to see who signed it
}

// New makes a Hooks.
func New(o Options) *Hooks {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Hooks{opt: o, log: o.Logger, m: newMetrics(o.Registerer), bodyTime: maxBodyTime, signing: make(chan struct{}, maxSigned)}
}

// answer is the body of a 202.
type answer struct {
	Queued  int `json:"queued"`  // images to be looked at
	Ignored int `json:"ignored"` // events that are no push of an image that a rule wants
}

// ServeHTTP takes one notification.
func (h *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, Prefix)
	var format string
	serve := oci.Handler(func(w http.ResponseWriter, r *http.Request) (err error) {
		format, err = h.take(w, r, name)
		return err
	})
	rec := &oci.Recorder{ResponseWriter: w}
	serve.ServeHTTP(rec, r)
	h.m.count(format, rec.Status)
	level := slog.LevelInfo
	if rec.Err != nil {
		level = slog.LevelWarn
	}
	// The query may hold the secret: it is not logged.
	h.log.Log(r.Context(), level, "hook", "upstream", clip(name), "format", format, "status", rec.Status, "remote", r.RemoteAddr, "err", rec.Err)
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 100)], "?") }

func (h *Hooks) take(w http.ResponseWriter, r *http.Request, name string) (format string, err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return "", &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusMethodNotAllowed, Message: "notifications are POSTed here"}
	}
	secrets := h.opt.Secrets(name)
	if len(secrets) == 0 {
		return "", &oci.Error{Code: errcode.ErrorCodeNameUnknown, Message: "no upstream with a hook has this name: see hook.secret_file of an upstream in the configuration"}
	}
	body, err := h.admitted(w, r, secrets)
	if err != nil {
		return "", err
	}
	n, err := parse(r.Header, body)
	if err != nil {
		return n.format, &oci.Error{Code: errcode.ErrorCodeNameInvalid, Status: http.StatusBadRequest, Message: "the notification is not understood: " + err.Error(), Err: err}
	}
	pushes, ignored := h.images(name, n)
	if len(pushes) > maxEvents {
		return n.format, tooLarge("it tells of more than 1000 pushes")
	}
	a := answer{}
	if len(pushes) > 0 {
		if a.Queued, err = h.opt.Queue.Pushed(r.Context(), pushes); err != nil {
			return n.format, &oci.Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: 30 * time.Second, Message: "the notification could not be filed: send it again", Err: err}
		}
	}
	a.Ignored = ignored + len(pushes) - a.Queued
	h.m.queued.Add(float64(a.Queued))
	h.m.ignored.Add(float64(a.Ignored))
	text, err := json.Marshal(a)
	if err != nil {
		return n.format, err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(append(text, '\n')) // a sender that left is nobody's loss
	return n.format, nil
}

// images turns what was told into repositories here. What is no image's name is
// ignored, as a sender would send it again for ever.
func (h *Hooks) images(upstream string, n notification) (pushes []oci.Pushed, ignored int) {
	ignored = n.ignored
	seen := map[oci.Pushed]bool{}
	for _, p := range n.pushes {
		if h.opt.Library != nil && h.opt.Library(upstream) && !strings.Contains(p.name, "/") {
			p.name = "library/" + p.name
		}
		x := oci.Pushed{Repo: oci.Repo{Upstream: upstream, Name: p.name}, Tag: p.tag}
		ok := oci.CheckName(p.name) == nil && (p.tag != "" || p.digest != "")
		if p.tag != "" {
			ref, err := oci.ParseReference(p.tag)
			ok = ok && err == nil && ref.Tag == p.tag
		}
		if p.digest != "" {
			d, err := oci.ParseDigest(p.digest)
			ok = ok && err == nil
			x.Digest = d
		}
		if !ok || seen[x] {
			ignored++
			continue
		}
		seen[x] = true
		pushes = append(pushes, x)
	}
	return pushes, ignored
}

func tooLarge(why string) *oci.Error {
	return &oci.Error{Code: errcode.ErrorCodeSizeInvalid, Status: http.StatusRequestEntityTooLarge, Message: "the notification is too large: " + why}
}
