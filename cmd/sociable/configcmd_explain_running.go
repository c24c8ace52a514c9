package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// explain is web.Explain, by the configuration that is in force now and with the
// upstreams' own clients: their credentials, budgets and pauses count.
func (l *live) explain(store *storage.Store) web.Explain {
	return func(ctx context.Context, name string, offline bool) (any, error) {
		l.reload.Lock()
		cfg, now := l.cfg, l.now.Load()
		l.reload.Unlock()
		e := &explainer{cfg: cfg, offline: offline, config: "the running server's", ups: now.ups, clients: now.clients}
		e.known = func(ctx context.Context, word string) (web.Facts, error) { return web.FactsOf(ctx, store, word) }
		return e.explain(ctx, name)
	}
}

// Explain asks the server.
func (c *adminClient) Explain(ctx context.Context, name string, offline bool) (x *Explanation, err error) {
	q := url.Values{"name": {name}}
	if offline {
		q.Set("offline", "true")
	}
	return x, c.call(ctx, http.MethodGet, "/api/v1/explain?"+q.Encode(), nil, &x)
}

// maxConfig is more than an image's configuration has.
const maxConfig = 8 << 20

// platformOf is what an image that no index names says of itself, nil where it
// says nothing.
func platformOf(ctx context.Context, client *upstream.Client, repo oci.Repo, m *oci.Manifest) *v1.Platform {
	if m.Config == nil || m.Config.Size > maxConfig {
		return nil
	}
	body, err := client.Blob(ctx, repo.Name, m.Config.Digest, oci.Range{End: -1})
	if err != nil {
		return nil
	}
	defer body.Close()
	var p v1.Platform
	if json.NewDecoder(io.LimitReader(body, maxConfig)).Decode(&p) != nil || p.OS == "" {
		return nil
	}
	return &p
}
