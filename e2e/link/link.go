// Package link stands between a proxy and its upstream registry, as the network
// between them: it delays answers, shares a limited bandwidth among them, counts
// every request and byte, and breaks answers on order.
//
// A Link is an HTTP/1.1 server, or one of HTTP/2 over TLS, that forwards to one
// upstream. What it does to an answer is said by Faults, in the terms of the
// answer and not of the wire, so that one set of faults serves any upstream:
//
//	l, err := link.Start("http://127.0.0.1:5005", link.Options{Latency: 20 * time.Millisecond, BytesPerSecond: 50e6})
//	l.Inject(link.Fault{On: link.Blob(d), Times: 1, Cut: 1 << 20, Ends: link.Close})
//	...
//	n := len(l.Requests(link.Blob(d), link.Method("GET")))
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options are what the link is like. The zero Options are a link without limits.
type Options struct {
	Latency        time.Duration // before each answer's first byte
	BytesPerSecond int64         // of the bodies of all answers together; 0: unlimited
	From           net.IP        // the address that upstream sees; fixed by Start

	// Certificate has it speak HTTP/2 over TLS, and nothing else; fixed by Start.
	Certificate *tls.Certificate
}

// Link is one link. Its methods are safe for concurrent use.
type Link struct {
	upstream string
	addr     string
	tls      *tls.Config // nil: HTTP/1.1
	client   *http.Transport
	served   sync.WaitGroup // the server's goroutine

	mu     sync.Mutex
	server *http.Server // nil while down
	opt    Options
	pace   pacer
	faults []*scheduled
	log    []*record
}

// Start listens on a free port of loopback and forwards to upstream, an
// http://host:port.
func Start(upstream string, opt Options) (*Link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{
		upstream: upstream,
		addr:     ln.Addr().String(),
		client:   &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	}
	if opt.Certificate != nil {
		l.tls = &tls.Config{Certificates: []tls.Certificate{*opt.Certificate}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	}
	if opt.From != nil {
		l.client.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: opt.From}}).DialContext
	}
	l.Set(opt)
	l.serve(ln)
	return l, nil
}

// Addr is the link's host:port; it stays the same over Down and Up.
func (l *Link) Addr() string { return l.addr }

// URL is what a proxy is given as its upstream.
func (l *Link) URL() string {
	if l.tls != nil {
		return "https://" + l.addr
	}
	return "http://" + l.addr
}

// Set changes what the link is like, for transfers under way too.
func (l *Link) Set(opt Options) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opt = opt
	l.pace = pacer{rate: opt.BytesPerSecond}
}

// Down closes the listener and every connection: dialling is refused.
func (l *Link) Down() error {
	l.mu.Lock()
	s := l.server
	l.server = nil
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	err := s.Close()
	l.served.Wait()
	return err
}

// Up listens again after Down.
func (l *Link) Up() error {
	ln, err := net.Listen("tcp", l.addr)
	if err != nil {
		return err
	}
	l.serve(ln)
	return nil
}

// Close stops the link for good and waits for its goroutines.
func (l *Link) Close() error {
	err := l.Down()
	l.client.CloseIdleConnections()
	return err
}

func (l *Link) serve(ln net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var open sync.WaitGroup
	s := &http.Server{
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			open.Add(1)
			defer open.Done()
			l.forward(w, r)
		}),
	}
	if l.tls != nil {
		ln = &h2Listener{ln, l.tls}
		s.ConnContext, s.Protocols = withH2, new(http.Protocols)
		s.Protocols.SetUnencryptedHTTP2(true)
	}
	l.mu.Lock()
	l.server = s
	l.mu.Unlock()
	l.served.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener is ours and was open
		}
		cancel()
		open.Wait()
	})
}
