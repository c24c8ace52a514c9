package main

import (
	"context"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// leaveUpload leaves an upload open in the store in dir, as a push does that was cut
// off, and gives its id.
func leaveUpload(ts *testscript.TestScript, t *testing.T, dir string) string {
	s, stop := storagetest.Open(t, dir, storage.Options{})
	defer stop()
	ctx := context.Background()
	u, err := s.NewUploadBy(ctx, "user alice", 0, oci.Repo{Upstream: "local", Name: "app"}, digest.SHA256)
	ts.Check(err)
	defer u.Release()
	_, err = u.Write(ctx, make([]byte, 2000))
	ts.Check(err)
	ts.Check(u.Checkpoint(ctx))
	return u.ID()
}
