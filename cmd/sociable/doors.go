package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// doors are the listeners: the registry, the admin one, and the socket.
type doors struct{ registry, admin, socket net.Listener }

func openDoors(ctx context.Context, cfg *Config) (*doors, error) {
	d := &doors{}
	if err := d.open(ctx, cfg); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *doors) open(ctx context.Context, cfg *Config) (err error) {
	var l net.ListenConfig
	if cfg.Listen != "" { // "" is a command's own server, for which the socket is enough
		if d.registry, err = l.Listen(ctx, "tcp", cfg.Listen); err != nil {
			return notHad("--listen", err)
		}
	}
	if cfg.Admin.Listen != "" {
		if d.admin, err = l.Listen(ctx, "tcp", cfg.Admin.Listen); err != nil {
			return notHad("--admin", err)
		}
	}
	d.socket, err = listenSocket(filepath.Join(cfg.Storage.Path, adminSocket))
	return err
}

// notHad says what to do about an address that can't be listened at.
func notHad(flag string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program has that address; take another with %s", err, flag)
	}
	return fmt.Errorf("%s: %w", flag, err)
}

func (d *doors) close() {
	for _, l := range []net.Listener{d.registry, d.admin, d.socket} {
		if l != nil {
			_ = l.Close() // closed already, where it was served
		}
	}
}

// serve answers on all doors until ctx ends; then open responses get
// shutdown_timeout to finish.
func (d *doors) serve(ctx context.Context, cfg *Config, log *slog.Logger, px http.Handler, admin *web.Web, public http.Handler, acc *door) error {
	g, gctx := errgroup.WithContext(ctx)
	var adminTLS *tls.Config
	if cfg.Admin.TLS {
		adminTLS = acc.tls.adminConfig()
	}
	name := access.NameOf(cfg.TLS.ClientName)
	for _, e := range []entrance{
		{d.registry, traceRequests(cfg.Tracing, acc.Handler(px)), acc.tls.config(), name},
		{d.admin, acc.guardAdmin(cfg, public), adminTLS, name},
		{d.socket, admin.Local(gctx), nil, ""},
	} {
		if e.l != nil {
			e.open(gctx, g, cfg.ShutdownTimeout, log)
		}
	}
	if d.registry != nil {
		log.Info("listening", "registry", d.registry.Addr().String(), "admin", cfg.Admin.Listen,
			"data", cfg.Storage.Path, "next", tryCommand(cfg, d.registry.Addr().String()))
	}
	return g.Wait()
}

// entrance is one listener and what answers there.
type entrance struct {
	l      net.Listener
	h      http.Handler
	secure *tls.Config // nil: plain HTTP
	name   access.NameOf
}

// open answers, in g, until ctx ends, and then for up to grace what is open.
func (e entrance) open(ctx context.Context, g *errgroup.Group, grace time.Duration, log *slog.Logger) {
	var quiet quietConns
	srv := &http.Server{
		Handler: oci.BoundUnread(e.h), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ConnState: func(c net.Conn, state http.ConnState) {
			quiet.note(c, state)
			if state == http.StateClosed {
				tellCertificate(log, c, e.name)
			}
		},
		ErrorLog: newServerLog(log), TLSConfig: e.secure,
	}
	g.Go(func() error {
		run := srv.Serve
		if e.secure != nil {
			run = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
		}
		if err := run(&nearListener{Listener: e.l}); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		quiet.close()
		if err := srv.Shutdown(ctx); err != nil {
			log.Warn("open responses were cut", "after", grace)
			return srv.Close()
		}
		return nil
	})
}

// quietConns are the connections on which nothing was asked yet. A server that
// shuts down gives those five seconds; clients that connect in advance would
// hold up every stop.
type quietConns struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// note is an http.Server's ConnState.
func (q *quietConns) note(c net.Conn, state http.ConnState) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if state != http.StateNew {
		delete(q.open, c)
		return
	}
	if q.closed {
		_ = c.Close() // it came as the door shut
		return
	}
	if q.open == nil {
		q.open = map[net.Conn]struct{}{}
	}
	q.open[c] = struct{}{}
}

func (q *quietConns) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for c := range q.open {
		_ = c.Close() // nothing was asked on it
	}
}

// tryCommand is what to type next.
func tryCommand(cfg *Config, addr string) string {
	if at, err := netip.ParseAddrPort(addr); err == nil && at.Addr().IsUnspecified() {
		addr = fmt.Sprintf("127.0.0.1:%d", at.Port()) // no client takes [::]
	}
	if _, ok := cfg.Upstreams[dockerHub]; ok {
		return "docker pull " + addr + "/docker.io/library/redis:7"
	}
	scheme := "http"
	if cfg.TLS.on() {
		scheme = "https"
	}
	return "curl " + scheme + "://" + addr + "/v2/"
}
