package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestOfflineAsksNobody: a configuration under which nobody can pull is warned of.
func TestOfflineAsksNobody(t *testing.T) {
	says := func(at, names string) []string {
		return []string{at + ": access: with passthrough the upstream says who may pull, and with offline: true it is never asked: nobody will pull from " +
			names + "; write access: open, or leave access out and say who may with auth.rules"}
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"all offline", "offline: true\nupstreams:\n  a.io: {access: passthrough}\n  b.io:\n    access: passthrough\n  c.io: {access: open}\n", says("3", "a.io, b.io")},
		{"one", "upstreams:\n  a.io: {access: passthrough}\n  b.io:\n    offline: true\n    access: passthrough\n", says("5", "b.io")},
		{"for all", "access: passthrough\nupstreams: {a.io: {offline: true}}\n", says("1", "a.io")},
		{"connected", "access: passthrough\nupstreams: {a.io: {}}\n", nil},
		{"pushes", "access: open\nupstreams:\n  a.io: {offline: true, push: allow}\n  b.io: {push: allow}\n",
			[]string{"3: upstreams.a.io.push: nothing is pushed to an upstream that is offline by configuration"}},
		{"open", "offline: true\naccess: open\nupstreams: {a.io: {}}\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, got, err := load(sources{File: file})
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], file+":")
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
