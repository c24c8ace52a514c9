package proxy

import (
	"net/http"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// pulled tells of a manifest or blob that was sent whole.
func (p *Proxy) pulled(w http.ResponseWriter, r *http.Request, repo oci.Repo, target v1.Descriptor, tag string) {
	if r.Method == http.MethodGet && p.opt.Events.Wants(oci.EventPull) {
		p.opt.Events.Note(oci.Event{Kind: oci.EventPull, Repo: repo, Tag: tag, Target: target, Request: eventRequest(w, r)})
	}
}

// eventRequest is what an event says of the request that brought it about.
func eventRequest(w http.ResponseWriter, r *http.Request) *oci.EventRequest {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return &oci.EventRequest{
		ID: w.Header().Get("X-Request-Id"), Addr: r.RemoteAddr, Method: r.Method, UserAgent: r.UserAgent(),
		Scheme: scheme, Host: r.Host,
	}
}

// noEvents is what a proxy without receivers tells.
type noEvents struct{}

func (noEvents) Wants(oci.EventKind) bool              { return false }
func (noEvents) Note(oci.Event)                        {}
func (noEvents) File(storage.EventTx, oci.Event) error { return nil }
