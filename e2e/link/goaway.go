package link

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
)

// h2Listener takes TLS connections of HTTP/2 and hands them on without its TLS, so
// that net/http, which takes them for unencrypted ones, writes its frames to an
// h2Conn.
type h2Listener struct {
	net.Listener
	config *tls.Config
}

func (l *h2Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	secure := tls.Server(c, l.config)
	h := &h2Conn{Conn: secure, end: secure.CloseWrite}
	h.moved.L = &h.mu
	return h, nil
}

// h2Conn is a connection that knows where the frames begin that are written to it
// (RFC 9113 §4.1), and so can end it by one of its own.
type h2Conn struct {
	net.Conn // not *tls.Conn, which would be seen
	end      func() error

	mu     sync.Mutex
	moved  sync.Cond // something was written, or the connection is closed
	head   []byte    // of the frame that is being written, while it is not whole
	left   int       // of that frame's payload
	kind   byte      // of that frame
	frames int
	data   int64 // bytes of all DATA frames
	ended  bool  // by goAway, or closed
}

const (
	frameData   = 0x0
	frameGoAway = 0x7
	frameHead   = 9
)

// Write writes frames. Behind a GOAWAY nothing is: whoever writes is not told.
func (c *h2Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	for q := p[:n]; len(q) > 0; {
		if c.left == 0 {
			k := min(frameHead-len(c.head), len(q))
			if c.head, q = append(c.head, q[:k]...), q[k:]; len(c.head) < frameHead {
				break
			}
			c.left, c.kind = int(binary.BigEndian.Uint32(c.head)>>8), c.head[3]
			c.head = c.head[:0]
			c.frames++
			continue
		}
		k := min(c.left, len(q))
		if c.left, q = c.left-k, q[k:]; c.kind == frameData {
			c.data += int64(k)
		}
	}
	c.moved.Broadcast()
	return n, err
}

// Close implements net.Conn.
func (c *h2Conn) Close() error {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.moved.Broadcast()
	return c.Conn.Close()
}

// sent is how many bytes of DATA were written.
func (c *h2Conn) sent() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.data
}

// goAway writes GOAWAY, without an error and with the last stream that it will
// answer, once there are so many bytes of DATA, and nothing more. The client then
// closes the connection.
func (c *h2Conn) goAway(last uint32, data int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended && (c.frames == 0 || c.left > 0 || len(c.head) > 0 || c.data < data) {
		c.moved.Wait()
	}
	if c.ended {
		return
	}
	c.ended = true
	frame := make([]byte, frameHead+8)
	frame[2], frame[3] = 8, frameGoAway
	binary.BigEndian.PutUint32(frame[frameHead:], last)
	_, _ = c.Conn.Write(frame) // the client may have left
	_ = c.end()
}

type h2Key struct{}

func withH2(ctx context.Context, c net.Conn) context.Context {
	if h, ok := c.(*h2Conn); ok {
		return context.WithValue(ctx, h2Key{}, h)
	}
	return ctx
}

func h2Of(ctx context.Context) *h2Conn {
	h, _ := ctx.Value(h2Key{}).(*h2Conn)
	return h
}
