package main

import (
	"net"
	"sync/atomic"
	"time"
)

const (
	// nearRoundTrip is how far away a client may be to be near.
	nearRoundTrip = 300 * time.Microsecond
	// nearBuffer is what the kernel may hold for a near client's connection: it
	// doubles that for its own needs, and gives no more than net.core.wmem_max. What is on the wire at 10 Gbit/s and
	// nearRoundTrip is less; a megabyte, and it falls out of the processor's cache.
	nearBuffer = 320 << 10
)

// nearListener gives connections of near clients a send buffer of what the wire
// can hold, and sends them files in a way of its own. Left alone the kernel lets the
// buffer grow to megabytes: each byte then waits in memory that is larger than the
// processor's cache, which on one machine, or in one rack, halves what can be sent.
// Connections of clients further away are left alone.
type nearListener struct {
	net.Listener
	load nearLoad
}

// nearLoad is what goes on at once on a listener's connections.
type nearLoad struct {
	sends atomic.Int32 // of large files that are under way
	waits atomic.Int32 // of them that wait in the kernel, each with a thread
}

// nearConn is a near client's connection.
type nearConn struct {
	*net.TCPConn
	load *nearLoad // its listener's
}

// Accept gives a connection that a file still reaches by the kernel's own copy.
func (l *nearListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		if rtt, ok := roundTrip(tcp); ok && rtt <= nearRoundTrip {
			_ = tcp.SetWriteBuffer(nearBuffer) // slower without
			return nearConn{tcp, &l.load}, nil
		}
	}
	return c, err
}
