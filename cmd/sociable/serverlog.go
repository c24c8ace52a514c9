package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"strings"
)

// serverLog gives what an http.Server says of itself the level that it has for
// an operator.
type serverLog struct{ log *slog.Logger }

// newServerLog is an http.Server's ErrorLog.
func newServerLog(to *slog.Logger) *log.Logger { return log.New(serverLog{to}, "", 0) }

// Write takes one message.
func (s serverLog) Write(p []byte) (int, error) {
	msg := strings.TrimSpace(string(p))
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
