package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
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

// TestNobodyIsHeldByABody: whatever the path, a body that does not come holds no
// connection.
func TestNobodyIsHeldByABody(t *testing.T) {
	s := startServer(t, "--upstream", "up="+layoutRegistry(t).URL, "--hosted", "local")
	mount := "?from=local/b&mount=sha256:" + strings.Repeat("0", 64)
	for path, want := range map[string]int{
		"/hooks/up": 404, "/v2/up/a/blobs/uploads/": 405, "/v2/nobody/manifests/1": 405, "/metrics": 404, "/": 404,
		"/v2/local/a/blobs/uploads/": 202, "/v2/local/a/blobs/uploads/" + mount: 202,
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", path); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s, want %d", resp.Status, want)
			}
		})
	}
}
