package main

import (
	"errors"
	"log/slog"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/events"
	"github.com/sociable/sociable/internal/oci"
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
	e.to.Note(oci.Event{
		Kind: oci.EventEvicted, Repo: repo,
		Target: v1.Descriptor{MediaType: "application/octet-stream", Digest: row.Digest, Size: row.Size},
	})
	return nil
}

// dropped files that a hosted repository no longer has something.
func (e *eviction) dropped(tx storage.Tx, x storage.Dropped) error {
	if e.to == nil {
		return nil
	}
	return e.to.File(tx, oci.Event{Kind: oci.EventDelete, Repo: x.Repo, Tag: x.Tag, Target: x.Target})
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
