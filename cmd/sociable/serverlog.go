package main

import (
	"context"
	"log"
	"log/slog"
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

// refusedCertificate tells of a message that a client showed a certificate that is
// not taken: one that has expired, or that no authority of ours made. That there
// was none where one is required is told, too.
func refusedCertificate(msg string) (client, why string, ok bool) {
	rest, ok := strings.CutPrefix(msg, "http: TLS handshake error from ")
	if !ok {
		return "", "", false
	}
	client, why, _ = strings.Cut(rest, ": ")
	return client, strings.TrimPrefix(why, "tls: "), strings.HasPrefix(why, "tls: failed to verify certificate") ||
		strings.HasPrefix(why, "tls: client didn't provide a certificate")
}
