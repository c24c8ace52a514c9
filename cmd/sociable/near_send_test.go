//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// nearPair is a connection of a near client, from both ends.
func nearPair(t *testing.T) (server nearConn, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	tcp := c.(*net.TCPConn)
	if err := tcp.SetWriteBuffer(nearBuffer); err != nil {
		t.Fatal(err)
	}
	return nearConn{tcp, new(nearLoad)}, client
}

// nearBody is a file, and what is in it.
func nearBody(t *testing.T) (*os.File, []byte) {
	t.Helper()
	body := make([]byte, 9<<20+123)
	rand.NewChaCha8([32]byte{7}).Read(body)
	name := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, body
}

// TestNearConn sends parts of a file, and holds them against io.Copy's own rules: how
// much was sent, what is left of the limit, and where the file stands then.
func TestNearConn(t *testing.T) {
	f, body := nearBody(t)
	size := int64(len(body))
	for name, tt := range map[string]struct {
		off, n int64
		sent   int64
		pause  time.Duration // before the client reads: longer than a send waits in the kernel
	}{
		"all of it":           {0, size, size, 0},
		"a part":              {1000, 5 << 20, 5 << 20, 0},
		"small":               {77, nearFile - 1, nearFile - 1, 0},
		"beyond its end":      {size - 1<<20, 3 << 20, 1 << 20, 0},
		"nothing is there":    {size, 3 << 20, 0, 0},
		"to one who is slow":  {3, size - 3, size - 3, 10 * nearWait * time.Millisecond},
		"to one slow, beyond": {3, size, size - 3, 10 * nearWait * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := nearPair(t)
			got := make(chan []byte, 1)
			go func() {
				<-time.After(tt.pause)
				b, _ := io.ReadAll(client) // what is missing is seen below
				got <- b
			}()
			if _, err := f.Seek(tt.off, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			src := &io.LimitedReader{R: f, N: tt.n}
			n, err := server.ReadFrom(src)
			if err != nil || n != tt.sent || src.N != tt.n-tt.sent {
				t.Errorf("%d bytes sent, %d of %d left, %v; want %d", n, src.N, tt.n, err, tt.sent)
			}
			if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != tt.off+tt.sent {
				t.Errorf("the file is at %d, %v; want %d", at, err, tt.off+tt.sent)
			}
			server.Close()
			if b := <-got; !bytes.Equal(b, body[tt.off:tt.off+tt.sent]) {
				t.Errorf("the client has %d bytes, not the %d that were sent", len(b), tt.sent)
			}
			if sends, waits := server.load.sends.Load(), server.load.waits.Load(); sends+waits != 0 {
				t.Errorf("%d sends, %d of which wait, are counted when all have ended", sends, waits)
			}
		})
	}
}

// TestNearRoom has a buffer empty, full before a client that does not read, and read.
func TestNearRoom(t *testing.T) {
	server, client := nearPair(t)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	room := func() (n int, quick bool) {
		t.Helper()
		if err := raw.Control(func(socket uintptr) { n, quick = server.load.room(socket) }); err != nil {
			t.Fatal(err)
		}
		return n, quick
	}
	empty, quick := room()
	if !quick || empty < nearFile || empty > 2*nearBuffer {
		t.Errorf("%d bytes, %t, fit into an empty buffer", empty, quick)
	}
	var written int64
	body := make([]byte, 64<<20)             // made before its time runs
	for n := 1; n > 0; written += int64(n) { // until nothing goes for a while
		if err := server.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err = server.Write(body)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes to a client that does not read: %v", written, err)
		}
	}
	if n, quick := room(); quick || n != all {
		t.Errorf("a buffer that is full: %d, %t; want all, without having Go wait for it in vain", n, quick)
	}
	if _, err := io.CopyN(io.Discard, client, written); err != nil {
		t.Fatal(err)
	}
	if n, quick := room(); !quick || n != empty {
		t.Errorf("what was full is read: %d, %t; want %d", n, quick, empty)
	}
}

// TestNearWaitsAreBounded: beyond so many no send waits in the kernel, with a thread; it
// comes to its end by the runtime's poller.
func TestNearWaitsAreBounded(t *testing.T) {
	f, body := nearBody(t)
	server, client := nearPair(t)
	most := int32(nearWaits * runtime.GOMAXPROCS(0))
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for others, want := range map[int32]bool{0: true, most - 1: true, most: false, 10 * most: false} {
		server.load.waits.Store(others)
		err := raw.Control(func(socket uintptr) {
			if got := server.load.roomSoon(socket); got != want {
				t.Errorf("with %d that wait it waits: %t, want %t", others, got, want)
			}
		})
		if got := server.load.waits.Load(); err != nil || got != others {
			t.Errorf("%v, %d are counted, want %d", err, got, others)
		}
	}
	server.load.waits.Store(most)
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(client) // what is missing is seen below
		got <- b
	}()
	n, err := server.ReadFrom(&io.LimitedReader{R: f, N: int64(len(body))})
	server.Close()
	if b := <-got; err != nil || n != int64(len(body)) || !bytes.Equal(b, body) {
		t.Errorf("%d bytes sent, %d came, %v", n, len(b), err)
	}
}

// TestNearConnEnds has a client not read: a deadline ends the send, and so does the
// client that goes, or the connection that is closed meanwhile.
func TestNearConnEnds(t *testing.T) {
	f, body := nearBody(t)
	for name, tt := range map[string]struct {
		end  func(server nearConn, client net.Conn) error
		want error // nil: any
	}{
		"deadline":       {func(s nearConn, _ net.Conn) error { return s.SetWriteDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		"client goes":    {func(_ nearConn, c net.Conn) error { return c.Close() }, nil},
		"server closes":  {func(s nearConn, _ net.Conn) error { return s.Close() }, net.ErrClosed},
		"both, one late": {func(s nearConn, c net.Conn) error { return errors.Join(c.Close(), s.SetWriteDeadline(time.Now())) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := nearPair(t)
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := server.ReadFrom(&io.LimitedReader{R: f, N: int64(len(body))})
				ended <- err
			}()
			if _, err := io.ReadFull(client, make([]byte, 1)); err != nil { // it has begun
				t.Fatal(err)
			}
			if err := tt.end(server, client); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("the send ended with %v, want %v", err, tt.want)
			}
		})
	}
}
