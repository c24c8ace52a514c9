//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNearListener holds that a client on this machine is near, that its
// connection is one that a file reaches by the kernel's own copy, and that its send
// buffer no longer grows.
func TestNearListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := (&nearListener{Listener: ln}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tcp, ok := c.(*net.TCPConn)
	if near, is := c.(nearConn); is {
		tcp, ok = near.TCPConn, true
	}
	if !ok {
		t.Fatalf("Accept gave a %T", c)
	}
	rtt, ok := roundTrip(tcp)
	if !ok {
		t.Fatal("the round trip is not known")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var size int
	err = raw.Control(func(fd uintptr) {
		size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
	})
	if err != nil {
		t.Fatal(err)
	}
	var most int // what the kernel lets anybody ask for
	b, err := os.ReadFile("/proc/sys/net/core/wmem_max")
	if _, serr := fmt.Sscan(string(b), &most); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	want := 2 * min(nearBuffer, most)
	if near := rtt <= nearRoundTrip; near != (size == want) {
		t.Errorf("round trip %v, send buffer %d, want %d where that is near", rtt, size, want)
	}
}
