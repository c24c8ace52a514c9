package dashboard

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/sociable/sociable/e2e/harness"
)

// startClosed starts a proxy with dir's config.yml, its admin listener on all
// addresses, and gives that one's URL.
func startClosed(t *testing.T, sociable, dir string) string {
	t.Helper()
	admin, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		t.Fatal(err)
	}
	x, err := harness.NewProxy(&harness.Programs{Sociable: sociable}, filepath.Join(dir, "data"), nil,
		"--config", filepath.Join(dir, "config.yml"), "--admin", "0.0.0.0:"+port)
	if err != nil {
		t.Fatal(err)
	}
	x.Admin = admin
	if err := x.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
	})
	return "http://" + x.Admin
}
