package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSocketPath listens in folders whose path is longer than a socket's
// address may be.
func TestSocketPath(t *testing.T) {
	for name, folder := range map[string]string{"short": "d", "long": strings.Repeat("d", 200)} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), folder)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, adminSocket)
			if _, err := dialSocket(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("dial where nobody ever listened: %v, want ErrNotExist", err)
			}
			leaveSocket(t, path)
			if _, err := dialSocket(t.Context(), path); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial where nobody listens: %v, want ECONNREFUSED", err)
			}
			l, err := listenSocket(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			info, err := os.Stat(path)
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("the socket is %v, %v; want mode 0600", info, err)
			}
			conn, err := dialSocket(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if served, err := l.Accept(); err != nil {
				t.Errorf("accept: %v", err)
			} else {
				served.Close()
			}
			for range 2 { // a server closes it, and who opened it again
				_ = l.Close()
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("after Close there is %v, %v; want nothing", left, err)
			}
		})
	}
}

// leaveSocket leaves what a server that was killed does.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	err := atSocket(path, func(short string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}
