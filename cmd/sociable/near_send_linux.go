package main

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// nearFile is what is worth waiting for in the kernel: less fits into the buffer.
	nearFile = 256 << 10
	// nearPiece is the least that is sent while there is more to send.
	nearPiece = 16 << 10
	// all is more than fits into any buffer.
	all = 1 << 30
	// nearWait is how long, in milliseconds, a send waits in the kernel for a near
	// client to make room, which takes it some 50 µs for as long as it reads.
	nearWait = 2
	// nearWaits is how many sends for each processor wait so at once, since each has
	// a thread; any more wait in the runtime's poller.
	nearWaits = 16
)

// ReadFrom sends src by the kernel's own copy. Of a large file it waits for room by
// poll(2), with its thread, and only where that takes long as Go does, in the
// runtime's poller: a near client makes room sooner than the runtime wakes anybody.
// A deadline, or Close, is seen there, and between two calls: who sends much sends pieces.
func (c nearConn) ReadFrom(src io.Reader) (int64, error) {
	from, ok := src.(*io.LimitedReader)
	if !ok || from.N < nearFile {
		return c.TCPConn.ReadFrom(src)
	}
	f, ok := from.R.(*os.File)
	if !ok {
		return c.TCPConn.ReadFrom(src)
	}
	defer c.load.sends.Add(-1)
	if c.load.sends.Add(1) < int32(runtime.GOMAXPROCS(0)) {
		// Who is in one system call after the other for 10 ms has its processor taken
		// away by the runtime, and goes on with another thread. With a processor left
		// for the others there is no need for that, and who yields is not suspected.
		runtime.Gosched()
	}
	n, err := c.send(f, from.N)
	from.N -= n
	if n == 0 && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL)) { // by the file's medium
		return c.TCPConn.ReadFrom(src)
	}
	return n, err
}

// send sends n bytes of f, from where that stands on, or up to its end.
func (c nearConn) send(f *os.File, n int64) (sent int64, err error) {
	in, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	out, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	ierr := in.Control(func(file uintptr) {
		quick := true
		err = out.Write(func(socket uintptr) bool {
			for sent < n {
				room := all
				if quick {
					room, quick = c.load.room(socket)
				}
				k, err := unix.Sendfile(int(socket), int(file), nil, int(min(n-sent, int64(room))))
				switch {
				case k > 0:
					sent += int64(k)
				case err == nil: // the file's end
					return true
				case err == unix.EAGAIN:
					if quick = quick && c.load.roomSoon(socket); !quick {
						return false // Go waits, and calls again
					}
				case err != unix.EINTR:
					failed = os.NewSyscallError("sendfile", err)
					return true
				}
			}
			return true
		})
	})
	if err = cmp.Or(failed, err, ierr); err != nil {
		return sent, &net.OpError{Op: "readfrom", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	}
	return sent, nil
}

// room is how much of a file socket's buffer takes now, which it waits for where that is
// nearly nothing. The kernel must not find the buffer full in the middle of a send: from
// then on it wakes Go's poller for what it acknowledges, which is registered for every
// connection and has a thread sleep, thousands of times a second, on the processors that
// client and sender need. Where room does not come soon it is all, and not quick: whoever
// then has Go wait for room has to have met the full buffer before.
func (l *nearLoad) room(socket uintptr) (n int, quick bool) {
	buffer, err := unix.GetsockoptInt(int(socket), unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return all, true
	}
	queued, err := unix.IoctlGetInt(int(socket), unix.SIOCOUTQ) // sent and not acknowledged, or unsent
	if err != nil {
		return all, true
	}
	if n = buffer - buffer/16 - queued; n >= nearPiece { // the kernel counts a little more than the bytes
		return n, true
	}
	if !l.roomSoon(socket) {
		return all, false
	}
	return buffer / 4, true // poll(2) finds room when a third is free
}

// roomSoon waits for room in socket's buffer, or its end, and reports whether it came.
// It does not wait where too many do.
func (l *nearLoad) roomSoon(socket uintptr) bool {
	defer l.waits.Add(-1)
	if l.waits.Add(1) > int32(nearWaits*runtime.GOMAXPROCS(0)) {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(socket), Events: unix.POLLOUT}}
	k, err := unix.Poll(fds, nearWait)
	return k > 0 && err == nil
}
