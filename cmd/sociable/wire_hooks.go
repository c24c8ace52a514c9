package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/hooks"
	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
)

// hookQueue is the indexer as hooks use it.
type hookQueue struct{ *indexer.Indexer }

func (q hookQueue) Pushed(ctx context.Context, pushes []oci.Pushed) (int, error) {
	n, err := q.Indexer.Pushed(ctx, pushes)
	if errors.Is(err, indexer.ErrQueueFull) {
		err = fmt.Errorf("%w: %w", hooks.ErrFull, err)
	}
	return n, err
}

// withHooks has px's listener take notifications of upstreams, too.
func withHooks(px http.Handler, l *live, ix *indexer.Indexer, log *slog.Logger, reg prometheus.Registerer) http.Handler {
	h := hooks.New(hooks.Options{
		Secrets: func(upstream string) []string { return l.now.Load().hooks[upstream] },
		Library: func(upstream string) bool {
			u := l.now.Load().upstream(upstream)
			return u != nil && u.Library
		},
		Queue: hookQueue{ix}, Logger: log, Registerer: reg,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, hooks.Prefix) {
			h.ServeHTTP(w, r)
			return
		}
		px.ServeHTTP(w, r)
	})
}
