package main

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// roundTrip is how long a packet and its acknowledgement took when c was opened.
func roundTrip(c *net.TCPConn) (rtt time.Duration, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			rtt = time.Duration(info.Rtt) * time.Microsecond
		}
	})
	return rtt, err == nil && rtt > 0
}
