package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// anyName takes every name for one of an image; what is none is told by the socket.
type anyName struct{ web.Images }

func (anyName) Name(string) (repo oci.Repo, ref oci.Reference, err error) { return repo, ref, nil }

// hungUp is the connection of a client that has gone.
type hungUp struct{ http.ResponseWriter }

func (hungUp) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestExportHungUp has a client leave in the middle of a bundle, which is no trouble
// of the server's.
func TestExportHungUp(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	srv := startServer(t, "--config", s.config)
	var log bytes.Buffer
	b := &bundles{
		life: t.Context(), socket: filepath.Join(srv.dir, adminSocket), images: anyName{},
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	defer func() {
		if p, ok := recover().(error); !ok || !errors.Is(p, http.ErrAbortHandler) {
			t.Errorf("panicked with %v", p)
		}
		if said := log.String(); !strings.Contains(said, "level=INFO") || strings.Contains(said, "level=WARN") {
			t.Errorf("logged %s", said)
		}
	}()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	err := b.Export(hungUp{httptest.NewRecorder()}, r, web.ExportRequest{Names: []string{"up/acme/app:1"}})
	t.Errorf("exported to nobody: %v", err)
}
