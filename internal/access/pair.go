package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// watchEvery is how often certificate files are looked at.
const watchEvery = 10 * time.Second

// Certificates are the server's certificate and the authorities of its clients,
// out of files that are read again when they change. What does not fit together,
// as while one file is written and the other is not, changes nothing.
type Certificates struct {
	cert, key, clients string
	log                *slog.Logger

	mu     sync.Mutex
	seen   [3]stamp // of the files, when they were last read
	failed bool     // and what was read then did not do

	now    atomic.Pointer[loaded]
	warned time.Time // when it was last said that the certificate ends
}

type loaded struct {
	pair    *tls.Certificate
	clients *x509.CertPool
}

// OpenCertificates reads a PEM pair, and the authorities where clients is not "";
// cert and key may both be "" where only these are wanted.
func OpenCertificates(cert, key, clients string, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{cert: cert, key: key, clients: clients, log: log}
	if log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.stamps()
	return c, c.readLocked()
}

// Certificate is for tls.Config.GetCertificate.
func (c *Certificates) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.now.Load().pair, nil
}

// Clients are the authorities whose certificates log clients in; nil: none.
func (c *Certificates) Clients() *x509.CertPool { return c.now.Load().clients }

// Run looks at the files until ctx ends, and calls changed after what is in them
// was taken over.
func (c *Certificates) Run(ctx context.Context, changed func()) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	c.warn()
	for {
		select {
		case <-tick.C:
			if ok, _ := c.Refresh(); ok { // an error is logged there
				changed()
			}
			c.warn()
		case <-ctx.Done():
			return nil
		}
	}
}

// Refresh takes over files that changed. The error says why they were not.
func (c *Certificates) Refresh() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.stamps()
	if now == c.seen && !c.failed {
		return false, nil
	}
	again := now == c.seen
	c.seen = now
	if err := c.readLocked(); err != nil {
		if c.failed = true; !again { // once for each state of the files
			c.log.Warn("certificates not taken over; those of before are in use", "cert", c.cert, "key", c.key, "clients", c.clients, "err", err)
		}
		return false, err
	}
	c.failed, c.warned = false, time.Time{}
	attrs := []any{"cert", c.cert}
	if p := c.now.Load().pair; p != nil && p.Leaf != nil {
		attrs = append(attrs, "until", p.Leaf.NotAfter.UTC())
	}
	c.log.Info("certificates were read again", attrs...)
	return true, nil
}

func (c *Certificates) stamps() (s [3]stamp) {
	for i, name := range []string{c.cert, c.key, c.clients} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

func (c *Certificates) readLocked() error {
	l := &loaded{}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return fmt.Errorf("%s and %s: %w", c.cert, c.key, err)
		}
		l.pair = &pair
	}
	if c.clients != "" {
		pem, err := os.ReadFile(c.clients)
		if err != nil {
			return err
		}
		l.clients = x509.NewCertPool()
		if !l.clients.AppendCertsFromPEM(pem) {
			return errors.New(c.clients + " holds no PEM certificate")
		}
	}
	c.now.Store(l)
	return nil
}
