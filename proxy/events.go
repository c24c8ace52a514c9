package proxy

import (
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// pulled tells of a manifest or blob that was sent whole.
func (p *Proxy) pulled(r *http.Request, repo oci.Repo, target v1.Descriptor, tag string) {
	if r.Method == http.MethodGet && p.opt.Events.Wants(oci.EventPull) {
		p.opt.Events.Note(oci.Event{Kind: oci.EventPull, Repo: repo, Tag: tag, Target: target, Request: p.eventRequest(r)})
	}
}

// tell files, in the transaction that does it, what r did to a hosted repository.
func (p *Proxy) tell(tx storage.EventTx, r *http.Request, e oci.Event) error {
	e.Request = p.eventRequest(r)
	return p.opt.Events.File(tx, e)
}

// maxReferences bounds what one event says of what a manifest names: events are
// rows, and an index may name tens of thousands.
const maxReferences = 100

// bare is d without what a client may write into it at any length.
func bare(d *v1.Descriptor) v1.Descriptor {
	return v1.Descriptor{MediaType: oci.Clip(d.MediaType, 255), Digest: d.Digest, Size: d.Size}
}

// tellPushed files that a manifest was pushed, under each of its tags.
func (p *Proxy) tellPushed(tx storage.EventTx, r *http.Request, repo oci.Repo, m *pushed) error {
	e := oci.Event{Kind: oci.EventPush, Repo: repo, Target: descriptor(m.row)}
	for i, x := range m.parts() {
		if i == maxReferences {
			break
		}
		e.References = append(e.References, bare(x.Descriptor))
	}
	if len(m.tags) == 0 {
		return p.tell(tx, r, e)
	}
	for _, e.Tag = range m.tags {
		if err := p.tell(tx, r, e); err != nil {
			return err
		}
		e.References = nil // what it names is told once
	}
	return nil
}

// tellMounted files that an upstream mounted a blob, which need not be here.
func (p *Proxy) tellMounted(r *http.Request, repo, from oci.Repo, d digest.Digest) error {
	if !p.opt.Events.Wants(oci.EventMount) {
		return nil
	}
	size := int64(0)
	if row, err := p.store.Stat(r.Context(), d); err == nil {
		size = row.Size
	}
	err := p.store.Update(context.WithoutCancel(r.Context()), func(tx storage.Tx) error {
		return p.tell(tx, r, oci.Event{Kind: oci.EventMount, Repo: repo, FromRepo: from, Target: blobTarget(d, size)})
	})
	if err != nil {
		return fmt.Errorf("tell of the mount of %s: %w", d, err)
	}
	return nil
}

// blobTarget is what an event says of a blob.
func blobTarget(d digest.Digest, size int64) v1.Descriptor {
	return v1.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: max(0, size)}
}

// eventRequest is what an event says of the request that brought it about.
func (p *Proxy) eventRequest(r *http.Request) *oci.EventRequest {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	who := ""
	if x, ok := p.opt.Access.(Door); ok {
		who = x.Who(r)
	}
	return &oci.EventRequest{
		ID: note(r).id, Addr: r.RemoteAddr, Method: r.Method, UserAgent: r.UserAgent(),
		Scheme: scheme, Host: r.Host, Actor: who,
	}
}

// noEvents is what a proxy without receivers tells.
type noEvents struct{}

func (noEvents) Wants(oci.EventKind) bool              { return false }
func (noEvents) Note(oci.Event)                        {}
func (noEvents) File(storage.EventTx, oci.Event) error { return nil }
