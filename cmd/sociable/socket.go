package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
)

// maxSocketPath is how many bytes of a path every system takes for a socket:
// sun_path of sockaddr_un, which is 104 on the BSDs and 108 on Linux, less the
// zero byte at its end.
const maxSocketPath = 103

// atSocket calls fn with a name of path that fits a socket's address. A long one
// is reached, on Linux, through its folder's file descriptor; the name is good
// until fn returns.
func atSocket(path string, fn func(short string) error) error {
	if len(path) <= maxSocketPath || runtime.GOOS != "linux" {
		return fn(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(fn(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))), dir.Close())
}

// dialSocket connects to the server at path.
func dialSocket(ctx context.Context, path string) (conn net.Conn, err error) {
	err = atSocket(path, func(short string) (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}

// socketListener removes its file when it is closed: by the path that was asked
// for, since the one it was bound to may name another folder by then.
type socketListener struct {
	*net.UnixListener
	path string
}

func (l *socketListener) Close() error {
	if err := os.Remove(l.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("close socket: %w", err), l.UnixListener.Close())
	}
	return l.UnixListener.Close()
}

// listenSocket takes over the path: the store's lock says that no other
// process serves it, so what is there was left by one that died.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	var l *socketListener
	err := atSocket(path, func(short string) error {
		ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		if err != nil {
			return err
		}
		ul.SetUnlinkOnClose(false)
		l = &socketListener{ul, path}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on socket: %w", err), l.Close())
	}
	return l, nil
}
