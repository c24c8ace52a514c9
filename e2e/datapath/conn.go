package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
)

// conn is a client's connection for load: HTTP/1.1 with Content-Length and
// keep-alive, nothing else. A body that nobody looks at is dropped in the kernel
// instead of being copied, so that the server and not the client is measured.
type conn struct {
	tcp *net.TCPConn
	raw syscall.RawConn
	buf []byte // of the head, and of the body's bytes that came with it
	in  []byte // what of buf is unread
}

// head is the beginning of an answer.
type head struct {
	status int
	length int64
	close  bool
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return &conn{tcp: tcp, raw: raw, buf: make([]byte, 4<<10)}, nil
}

// ask sends a request and reads the head of its answer.
func (c *conn) ask(request []byte) (head, error) {
	if _, err := c.tcp.Write(request); err != nil {
		return head{}, err
	}
	c.in = c.buf[:0]
	for {
		if i := bytes.Index(c.in, []byte("\r\n\r\n")); i >= 0 {
			h, err := parseHead(c.in[:i+2])
			c.in = c.in[i+4:]
			return h, err
		}
		if len(c.in) == len(c.buf) {
			return head{}, errors.New("an answer's head is too large")
		}
		n, err := c.tcp.Read(c.buf[len(c.in):])
		if err != nil {
			return head{}, err
		}
		c.in = c.buf[:len(c.in)+n]
	}
}

// parseHead reads status line and fields, each with its CRLF.
func parseHead(p []byte) (head, error) {
	h := head{length: -1}
	line, p, _ := bytes.Cut(p, []byte("\r\n"))
	if _, err := fmt.Sscanf(string(line), "HTTP/1.1 %d", &h.status); err != nil {
		return h, fmt.Errorf("status line %q: %w", line, err)
	}
	for len(p) > 0 {
		line, p, _ = bytes.Cut(p, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				return h, fmt.Errorf("length of an answer: %w", err)
			}
			h.length = n
		case bytes.EqualFold(name, []byte("Connection")):
			h.close = bytes.EqualFold(value, []byte("close"))
		}
	}
	if h.length < 0 {
		return h, errors.New("an answer without Content-Length")
	}
	return h, nil
}

// errDiffers is a body that isn't what it should be.
var errDiffers = errors.New("the body differs from the original")

// compare reads a body of len(want) bytes and compares it.
func (c *conn) compare(want, buf []byte) error {
	for len(want) > 0 {
		p := c.in
		if len(p) == 0 {
			n, err := c.tcp.Read(buf[:min(len(buf), len(want))])
			if err != nil {
				return err
			}
			p = buf[:n]
		}
		c.in = nil
		if len(p) > len(want) || !bytes.Equal(p, want[:len(p)]) {
			return errDiffers
		}
		want = want[len(p):]
	}
	return nil
}

// drop takes n bytes of body without looking at them.
func (c *conn) drop(n int64, buf []byte) error {
	n -= int64(len(c.in))
	c.in = nil
	if n < 0 {
		return errDiffers
	}
	for n > 0 {
		var got int
		var err error
		rerr := c.raw.Read(func(fd uintptr) bool {
			// MSG_TRUNC on TCP: the bytes are taken and not copied (tcp(7)).
			got, _, err = syscall.Recvfrom(int(fd), buf[:min(int64(len(buf)), n)], syscall.MSG_TRUNC)
			return !errors.Is(err, syscall.EAGAIN)
		})
		if err = errors.Join(rerr, err); err != nil {
			return err
		}
		if got == 0 {
			return io.ErrUnexpectedEOF
		}
		n -= int64(got)
	}
	return nil
}
