package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
)

// door is the access control with what it is made of.
type door struct {
	*access.Access
	keys    *access.Keys
	clients map[string]*upstream.Client
	// resolve is the proxy that knows what names mean. It is made with the door
	// in hand, and set before anything is served.
	resolve atomic.Pointer[proxy.Proxy]
}

func buildAccess(cfg *Config, ups []*proxy.Upstream, clients map[string]*upstream.Client, log *slog.Logger, reg prometheus.Registerer) (*door, error) {
	if err := cfg.openAuth(log); err != nil {
		return nil, fmt.Errorf("auth.%s: %w", err.key, err.error)
	}
	keys, err := access.OpenKeys(filepath.Join(cfg.Storage.Path, tokenKeys), log, nil)
	if err != nil {
		return nil, err
	}
	d := &door{keys: keys, clients: clients}
	d.Access = access.New(access.Options{
		Keys: keys, Logger: log, Registerer: reg,
		Upstreams: callers{func(name string) *upstream.Client { return d.clients[name] }},
		Resolve:   func(host, name string) (oci.Repo, error) { return d.resolve.Load().Resolve(host, name) },
	}, cfg.accessPolicy())
	for _, u := range ups {
		if c := clients[u.Name]; c != nil && cfg.mode(u.Name) == access.Passthrough {
			u.AsCaller = asCaller(d.Access, c)
		}
	}
	return d, nil
}
