package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/sociable/sociable/internal/access"
)

// serverLog gives what an http.Server says of itself the level that it has for
// an operator.
type serverLog struct{ log *slog.Logger }

// newServerLog is an http.Server's ErrorLog.
func newServerLog(to *slog.Logger) *log.Logger { return log.New(serverLog{to}, "", 0) }

// Write takes one message.
func (s serverLog) Write(p []byte) (int, error) {
	msg := strings.TrimSpace(string(p))
	if client, why, ok := refusedCertificate(msg); ok {
		s.log.Warn("login", "via", access.ViaCertificate, "decision", "refused", "client", client, "err", why)
		return len(p), nil
	}
	s.log.Log(context.Background(), serverLogLevel(msg), "http server", "err", msg)
	return len(p), nil
}

// serverLogLevel knows the texts of net/http. What a client can cause by itself
// is for who looks for it; a door that does not open, or a panic, is for all.
func serverLogLevel(msg string) slog.Level {
	switch {
	case strings.HasPrefix(msg, "http: Accept error"), strings.HasPrefix(msg, "http: panic serving"):
		return slog.LevelError
	case strings.HasPrefix(msg, "http: TLS handshake error"), strings.HasPrefix(msg, "http2: "),
		strings.HasPrefix(msg, "http: URL query contains semicolon"), strings.Contains(msg, http.ErrAbortHandler.Error()):
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// refusedCertificate tells of a message that a client showed no certificate where
// one is required. What is said of one that is not taken does not name it:
// tellCertificate does.
func refusedCertificate(msg string) (client, why string, ok bool) {
	rest, ok := strings.CutPrefix(msg, "http: TLS handshake error from ")
	if !ok {
		return "", "", false
	}
	client, why, _ = strings.Cut(rest, ": ")
	return client, strings.TrimPrefix(why, "tls: "), strings.HasPrefix(why, "tls: client didn't provide a certificate")
}

// tellCertificate says of a connection that has ended which client certificate was
// not taken there, and why: it has expired, no authority of ours made it, or it has
// no name of the sort that tls.client_name wants, and so is nobody's.
func tellCertificate(log *slog.Logger, conn net.Conn, name access.NameOf) {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	err := c.Handshake() //nolint:noctx // is over: this is how it ended
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(bad.UnverifiedCertificates) > 0 {
		refuseCertificate(log, conn, bad.UnverifiedCertificates[0], err)
		return
	}
	if err != nil {
		return
	}
	if shown := c.ConnectionState().PeerCertificates; len(shown) > 0 && name.Of(shown[0]) == "" {
		refuseCertificate(log, conn, shown[0], fmt.Errorf("it has no %s that names a user, see tls.client_name", cmp.Or(name, access.NameSubject)))
	}
}

func refuseCertificate(log *slog.Logger, conn net.Conn, c *x509.Certificate, err error) {
	clip := func(s string) string { // it is anybody's
		if len(s) > 200 {
			s = strings.ToValidUTF8(s[:200], "") + "…"
		}
		return s
	}
	log.Warn("login", "via", access.ViaCertificate, "decision", "refused", "client", conn.RemoteAddr().String(), "err", err,
		"subject", clip(c.Subject.String()), "serial", clip(c.SerialNumber.Text(16)), "issuer", clip(c.Issuer.String()), "until", c.NotAfter.UTC())
}
