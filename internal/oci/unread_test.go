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

// TestBodyThatDoesNotCome: a body that nobody reads, and that does not come, holds
// no answer.
func TestBodyThatDoesNotCome(t *testing.T) {
	refuse := Handler(func(http.ResponseWriter, *http.Request) error { return NewError(errcode.ErrorCodeDenied, "no") })
	ignore := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	flushed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(2 * unreadTime):
			_, _ = io.WriteString(w, "on")
		}
	})
	large := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	for name, tt := range map[string]struct {
		h               http.Handler
		method, headers string
		body            string
		want            int
	}{
		"refused":                      {refuse, "POST", "Content-Length: 100", "", http.StatusForbidden},
		"refused, chunked":             {refuse, "PATCH", "Transfer-Encoding: chunked", "5\r\n12345\r\n", http.StatusForbidden},
		"refused, a part came":         {refuse, "PUT", "Content-Length: 100", "12345", http.StatusForbidden},
		"taken without a look":         {ignore, "POST", "Content-Length: 100", "", http.StatusAccepted},
		"flushed, and no body comes":   {flushed, "POST", "Content-Length: 100", "", http.StatusAccepted},
		"sent on, the body came":       {flushed, "POST", "Content-Length: 5", "12345", http.StatusAccepted},
		"a large answer":               {large, "POST", "Content-Length: 100", "", http.StatusOK},
		"a GET":                        {large, "GET", "Content-Length: 100", "", http.StatusBadRequest},
		"a GET, too much":              {large, "GET", "Content-Length: 1000000", string(make([]byte, 100_000)), http.StatusBadRequest},
		"a GET whose body comes":       {large, "GET", "Content-Length: 5", "12345", http.StatusOK},
		"a DELETE whose body comes":    {ignore, "DELETE", "Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n\r\n", http.StatusAccepted},
		"a POST that nobody looked at": {ignore, "POST", "Content-Length: 5", "12345", http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(BoundUnread(tt.h))
			defer srv.Close()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s", tt.method, tt.headers, tt.body); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.want {
				t.Errorf("%s, %v; want %d", resp.Status, err, tt.want)
			}
			if name == "sent on, the body came" && string(body) != "on" {
				t.Error("the request ended before its handler did")
			}
		})
	}
}
