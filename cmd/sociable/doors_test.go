package main

import (
	"net"
	"strings"
	"testing"
)

// TestTakenAddress holds that an address that cannot be had is an error that
// names it, and leaves nothing open.
func TestTakenAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, tt := range []struct{ name, listen, admin, flag string }{
		{"registry", taken, "127.0.0.1:0", "listen"},
		{"admin", "127.0.0.1:0", taken, "admin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Default()
			cfg.Listen, cfg.Admin.Listen, cfg.Storage.Path = tt.listen, tt.admin, t.TempDir()
			if d, err := openDoors(t.Context(), cfg); err == nil || d != nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "take another with --"+tt.flag) {
				t.Errorf("got %v, %v, want an error that names %s and --%s", d, err, taken, tt.flag)
			}
		})
	}
}
