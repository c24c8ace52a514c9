package oci

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// TestRefusedWhileSending: who sends a large body and does not look for an answer
// before the end of it is answered all the same.
func TestRefusedWhileSending(t *testing.T) {
	const size = 6 << 20 // more than the kernel holds for a connection
	for name, reads := range map[string]int64{"at once": 0, "in the middle": 1 << 20} {
		for _, header := range []string{"X-None: x", "Connection: close", "Expect: 100-continue"} {
			t.Run(name+"/"+header, func(t *testing.T) {
				srv := httptest.NewServer(Handler(func(_ http.ResponseWriter, r *http.Request) error {
					if _, err := io.CopyN(io.Discard, r.Body, reads); err != nil {
						return err
					}
					return NewError(errcode.ErrorCodeDenied, "no")
				}))
				defer srv.Close()
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Fprintf(conn, "PATCH / HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n", header, size); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(make([]byte, size)); err != nil {
					t.Fatalf("the connection is closed while its client sends: %v", err)
				}
				wantDenied(t, conn)
			})
		}
	}
}

// wantDenied reads the answer: the final one, behind a 100 that was asked for.
func wantDenied(t *testing.T, conn net.Conn) {
	t.Helper()
	for in := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusContinue {
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("answered with %s", resp.Status)
			}
			return
		}
	}
}

// TestRefusedAndOn: a connection whose client sent little goes on.
func TestRefusedAndOn(t *testing.T) {
	srv := httptest.NewServer(Handler(func(http.ResponseWriter, *http.Request) error {
		return NewError(errcode.ErrorCodeDenied, "no")
	}))
	defer srv.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if _, err := fmt.Fprint(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, conn)
	}
}
