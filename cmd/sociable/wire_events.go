package main

import (
	"errors"
	"log/slog"
	"sync/atomic"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/events"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/prewarm"
	"github.com/sociable/sociable/storage"
)

// eviction tells of what the store evicts, collects and purges. The store is there before those who
// are told of it: to is set in between, before anything is evicted.
type eviction struct{ to *events.Events }

// evicted files that bytes made room, naming the first repository that has them.
func (e *eviction) evicted(tx storage.Tx, row storage.BlobRow) error {
	if e.to == nil || !e.to.Wants(oci.EventEvicted) {
		return nil
	}
	var repo oci.Repo
	one := errors.New("one is enough")
	err := tx.RightRepos(row.Digest, func(r oci.Repo) error { repo = r; return one })
	if err != nil && !errors.Is(err, one) {
		return err
	}
	return e.to.FileMany(tx, oci.Event{
		Kind: oci.EventEvicted, Repo: repo,
		Target: v1.Descriptor{MediaType: "application/octet-stream", Digest: row.Digest, Size: row.Size},
	})
}

// dropped files that a hosted repository no longer has something.
func (e *eviction) dropped(tx storage.Tx, x storage.Dropped) error {
	if e.to == nil {
		return nil
	}
	return e.to.File(tx, oci.Event{Kind: oci.EventDelete, Repo: x.Repo, Tag: x.Tag, Target: x.Target})
}

// pushes has what is pushed be looked at by those who follow it, besides being
// told as any event.
type pushes struct {
	*events.Events
	to atomic.Pointer[prewarm.Prewarmer] // set before anything is served
}

// Wants reports whether anybody wants to be told of such an event.
func (p *pushes) Wants(k oci.EventKind) bool {
	return p.Events.Wants(k) || k == oci.EventPush && p.to.Load().Follows()
}

// File adds e to tx. A look that was not needed, because tx comes to nothing,
// costs little.
func (p *pushes) File(tx storage.EventTx, e oci.Event) error {
	if e.Kind == oci.EventPush && e.Tag != "" {
		p.to.Load().Pushed(e.Repo, e.Tag)
	}
	return p.Events.File(tx, e)
}

func buildEvents(cfg *Config, store *storage.Store, log *slog.Logger, reg prometheus.Registerer) (*events.Events, error) {
	endpoints, err := eventEndpoints(cfg)
	if err != nil {
		return nil, err
	}
	return events.New(events.Options{
		Store: store, Endpoints: endpoints, MaxQueue: cfg.Events.MaxQueue, Addr: cfg.Listen, Logger: log, Registerer: reg,
	}), nil
}
