package hooks

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// TestSlowBodyIsGivenUp: who begins a notification and says nothing more gets an
// answer, and the connection ends, whether anything is known of the sender or not;
// one that comes in time leaves the connection as it was.
func TestSlowBodyIsGivenUp(t *testing.T) {
	h := newHooks(&book{})
	h.bodyTime = 50 * time.Millisecond
	srv := httptest.NewServer(h)
	defer srv.Close()
	body := sample(t, "distribution.json")
	for name, header := range map[string]string{
		"signed":       "X-Hub-Signature-256: " + sign(body, "another secret!!"),
		"with secrets": "Authorization: Bearer " + secret,
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "POST /hooks/up HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: 1000\r\n\r\n{", header); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
				t.Errorf("status %d, close %t", resp.StatusCode, resp.Close)
			}
			if _, err := io.Copy(io.Discard, in); err != nil {
				t.Errorf("the connection: %v", err)
			}
		})
	}
}

// held is a body that tells when it is read, and ends when it may.
type held struct {
	read sync.Once
	at   chan<- struct{}
	end  <-chan struct{}
}

func (b *held) Read([]byte) (int, error) {
	b.read.Do(func() { b.at <- struct{}{} })
	<-b.end
	return 0, io.EOF
}

// TestSignedBodiesAreBounded: so many bodies are read at once to see who signed
// them; one more is told to come again. Whoever shows the secret is not kept out.
func TestSignedBodiesAreBounded(t *testing.T) {
	h := newHooks(&book{})
	body := sample(t, "distribution.json")
	signature := sign(body, secret)
	reading, end := make(chan struct{}), make(chan struct{})
	var senders sync.WaitGroup
	for range maxSigned {
		senders.Go(func() {
			r := httptest.NewRequest(http.MethodPost, "/hooks/up", &held{at: reading, end: end})
			r.Header.Set("X-Hub-Signature-256", signature)
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
				t.Errorf("a body that is not what was signed: %d", w.Code)
			}
		})
	}
	for range maxSigned {
		<-reading
	}
	h.bodyTime = time.Millisecond
	if w := send(h, http.MethodPost, "/hooks/up", body, "X-Hub-Signature-256", signature); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	if w := send(h, http.MethodPost, "/hooks/up", body, "Authorization", "Bearer "+secret); w.Code != http.StatusAccepted {
		t.Errorf("with the secret: %d %s", w.Code, w.Body)
	}
	if w := send(h, http.MethodPost, "/hooks/up", body, "X-Hub-Signature-256", "sha256=00"); w.Code != http.StatusUnauthorized {
		t.Errorf("with what is no signature: %d %s", w.Code, w.Body)
	}
	close(end)
	senders.Wait()
	if w := send(h, http.MethodPost, "/hooks/up", body, "X-Hub-Signature-256", signature); w.Code != http.StatusAccepted {
		t.Errorf("when they have ended: %d %s", w.Code, w.Body)
	}
}
