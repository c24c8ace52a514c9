package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// adminServer is a script's command, adminserver DIR: it answers on
// DIR/admin.sock until the script ends, as a server with two images would.
func adminServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: adminserver DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	l, err := net.Listen("unix", filepath.Join(dir, adminSocket))
	ts.Check(err)
	srv := &http.Server{Handler: adminHandler()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with ErrServerClosed
	}()
	ts.Defer(func() {
		srv.Close()
		<-done
	})
}

func adminHandler() http.Handler {
	list := []IndexInfo{
		{
			Repository: "docker.io/library/redis", Tags: []string{"7"}, Manifest: digest.FromString("redis"),
			Index: digest.FromString("index"), Size: 1234, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Layers: []LayerInfo{
				{Digest: digest.FromString("l1"), Size: 50 << 20, State: storage.LayerIndexed, ZTOC: digest.FromString("z1"), ZTOCSize: 1 << 20, Spans: 30},
				{Digest: digest.FromString("l2"), Size: 1000, State: storage.LayerSkipped, Reason: "smaller than min_layer_size"},
			},
		},
		{Repository: "mirror/app", Manifest: digest.FromString("app"), Layers: []LayerInfo{{Digest: digest.FromString("l3"), State: storage.LayerWanted}}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/indexes", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(list) })
	mux.HandleFunc("GET /api/v1/indexes/{digest}", func(w http.ResponseWriter, r *http.Request) {
		for _, x := range list {
			if x.Manifest.String() == r.PathValue("digest") {
				_ = json.NewEncoder(w).Encode(x)
				return
			}
		}
		http.Error(w, "no such index", http.StatusNotFound)
	})
	mux.HandleFunc("POST /api/v1/purge", func(w http.ResponseWriter, r *http.Request) {
		var in web.PurgeRequest
		switch err := json.NewDecoder(r.Body).Decode(&in); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case in.Name == digest.FromString("l1").String():
			_ = json.NewEncoder(w).Encode(web.Purged{Name: in.Name, Digest: digest.FromString("l1"), Freed: 50 << 20, Blobs: 1})
		case in.Name == digest.FromString("l2").String():
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"is being read"}]}`))
		default:
			http.Error(w, "nothing under "+in.Name, http.StatusNotFound)
		}
	})
	return mux
}
