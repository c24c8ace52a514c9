package oci

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

func TestHandler(t *testing.T) {
	refused := NewError(errcode.ErrorCodeDenied, "no")
	for _, tc := range []struct {
		name   string
		h      Handler
		status int
		panics bool
	}{
		{"answers", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusAccepted)
			return nil
		}, 202, false},
		{"answers with a body alone", func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.WriteString(w, "body")
			return err
		}, 200, false},
		{"refuses", func(http.ResponseWriter, *http.Request) error { return refused }, 403, false},
		{"fails midway", func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half a bo")
			return refused
		}, 200, true},
		{"fails after the header", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusPartialContent)
			return refused
		}, 206, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inner := httptest.NewRecorder()
			rec := &Recorder{ResponseWriter: inner}
			func() {
				defer func() {
					if p := recover(); (p != nil) != tc.panics || (p != nil && p != http.ErrAbortHandler) { //nolint:errorlint // the very value
						t.Errorf("panicked with %v", p)
					}
				}()
				tc.h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
			}()
			if rec.Status != tc.status || rec.Bytes != int64(inner.Body.Len()) {
				t.Errorf("recorded %d and %d bytes; %d bytes left with status %d", rec.Status, rec.Bytes, inner.Body.Len(), tc.status)
			}
			if (rec.Err != nil) != (tc.status == 403 || tc.panics) {
				t.Errorf("recorded the error %v", rec.Err)
			}
		})
	}
}

// An early hint is no answer yet.
func TestHandlerRefusesAfterAnEarlyHint(t *testing.T) {
	h := Handler(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusEarlyHints)
		return NewError(errcode.ErrorCodeDenied, "no")
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&Recorder{ResponseWriter: w}, r)
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 403 || !strings.Contains(string(body), "DENIED") {
		t.Errorf("got %d, %q, %v", resp.StatusCode, body, err)
	}
}

// A client sees a failure midway as a broken connection, never as an end.
func TestHandlerCutsTheConnection(t *testing.T) {
	h := Handler(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "half a body")
		_ = http.NewResponseController(w).Flush()
		return errors.New("disk on fire")
	})
	recorded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&Recorder{ResponseWriter: w}, r)
	})
	for name, h := range map[string]http.Handler{"recorded": recorded, "by itself": h} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			resp, err := http.Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil || strings.Contains(string(body), "errors") {
				t.Errorf("the client read %q, %v", body, err)
			}
		})
	}
}

// readFrom remembers what net/http would have been given to copy.
type readFrom struct {
	http.ResponseWriter
	src io.Reader
}

func (r *readFrom) ReadFrom(src io.Reader) (int64, error) {
	r.src = src
	return io.Copy(r.ResponseWriter, src)
}

func TestRecorderForwardsReadFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inner := &readFrom{ResponseWriter: httptest.NewRecorder()}
	rec := &Recorder{ResponseWriter: inner}
	n, err := io.Copy(rec, io.LimitReader(f, 7))
	if err != nil || n != 7 || rec.Bytes != 7 || rec.Status != http.StatusOK {
		t.Errorf("copied %d, %v; recorded %d bytes and %d", n, err, rec.Bytes, rec.Status)
	}
	if l, ok := inner.src.(*io.LimitedReader); !ok || l.R != io.Reader(f) {
		t.Errorf("the writer got a %T, not the file under a LimitedReader", inner.src)
	}
	if rec.Unwrap() != http.ResponseWriter(inner) {
		t.Error("Unwrap gives another writer")
	}

	plain := httptest.NewRecorder() // without ReadFrom
	rec = &Recorder{ResponseWriter: plain}
	if n, err := io.Copy(rec, strings.NewReader("abc")); err != nil || n != 3 || plain.Body.String() != "abc" || rec.Bytes != 3 {
		t.Errorf("copied %d of %q, %v; recorded %d bytes", n, plain.Body, err, rec.Bytes)
	}
}
