package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestServerLogLevel(t *testing.T) {
	for msg, want := range map[string]slog.Level{
		"http: Accept error: accept tcp: too many open files; retrying in 5ms":      slog.LevelError,
		"http: panic serving 127.0.0.1:1: runtime error\ngoroutine 1 [running]:":    slog.LevelError,
		"http: TLS handshake error from 127.0.0.1:1: EOF":                           slog.LevelDebug,
		"http2: server: error reading preface from client 127.0.0.1:1: EOF":         slog.LevelDebug,
		"http: panic: net/http: abort Handler":                                      slog.LevelDebug,
		"http: superfluous response.WriteHeader call from main.main (main.go:1)":    slog.LevelWarn,
		"http: response.Write on hijacked connection from main.main (main.go:1234)": slog.LevelWarn,
	} {
		if got := serverLogLevel(msg); got != want {
			t.Errorf("%s: %v, want %v", msg, got, want)
		}
	}
}

// TestRefusedCertificates: whose certificate is not taken has a line for whoever
// looks after the users, which other broken handshakes have not.
func TestRefusedCertificates(t *testing.T) {
	for msg, want := range map[string]string{
		"http: TLS handshake error from 192.0.2.7:1: tls: failed to verify certificate: x509: certificate has expired or is not yet valid": "", // see TestCertificateLines
		"http: TLS handshake error from [::1]:1: tls: client didn't provide a certificate":                                                 "client=[::1]:1 err=\"client didn't provide a certificate\"",
		"http: TLS handshake error from 192.0.2.7:1: remote error: tls: bad certificate":                                                   "",
		"http: TLS handshake error from 192.0.2.7:1: EOF":                                                                                  "",
	} {
		var out bytes.Buffer
		newServerLog(newLogger(LogConfig{Level: "info", Format: "text"}, &out)).Print(msg)
		got := out.String()
		if want == "" && got != "" || want != "" && (!strings.Contains(got, want) || !strings.Contains(got, "level=WARN msg=login via=certificate decision=refused")) {
			t.Errorf("%s: %q, want %q", msg, got, want)
		}
	}
}

// outOfFiles is a listener of a process that has no file descriptor left, once.
type outOfFiles struct {
	net.Listener
	calls int
}

func (l *outOfFiles) Accept() (net.Conn, error) {
	if l.calls++; l.calls == 1 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return nil, net.ErrClosed
}

// TestAcceptErrorIsSeen has a server say, without debug logs, that it can't
// take connections.
func TestAcceptErrorIsSeen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out bytes.Buffer
	srv := &http.Server{ErrorLog: newServerLog(newLogger(LogConfig{Level: "info", Format: "text"}, &out))}
	if err := srv.Serve(&outOfFiles{Listener: l}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	if got := out.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, syscall.EMFILE.Error()) {
		t.Errorf("log = %q, want the error", got)
	}
}
