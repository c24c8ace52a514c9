package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// leaveEvents leaves events in the store in dir that endpoints were not told.
func leaveEvents(ts *testscript.TestScript, t *testing.T, dir string) {
	s, stop := storagetest.Open(t, dir, storage.Options{})
	defer stop()
	event := func(id, action, about string) []byte {
		return fmt.Appendf(nil, `{"id":%q,"timestamp":"2026-01-02T03:04:05Z","action":%q,"target":{"repository":"local/app",%s}}`, id, action, about)
	}
	d := fmt.Sprintf(`"digest":%q`, digest.FromString("x"))
	ts.Check(s.Update(context.Background(), func(tx storage.Tx) error {
		return errors.Join(
			tx.AddEvent("ci", event("id-1", "push", `"tag":"1"`)), tx.AddEvent(storage.SetAside("ci"), event("id-2", "indexed", d)),
			tx.AddEvent(storage.SetAside("ci"), event("id-3", "indexed", d)), tx.AddEvent("mail", event("id-4", "delete", d)),
		)
	}))
}
