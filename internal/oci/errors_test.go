package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/google/go-cmp/cmp"
)

func TestWriteError(t *testing.T) {
	secret := errors.New("open /var/lib/secret: permission denied")
	for _, tc := range []struct {
		name   string
		err    error
		status int
		body   string
		retry  string
	}{
		{"code", NewError(errcode.ErrorCodeNameInvalid, "invalid name %q", "X"), 400,
			`{"errors":[{"code":"NAME_INVALID","message":"invalid name \"X\""}]}`, ""},
		{"wrapped", fmt.Errorf("serve: %w", NewError(errcode.ErrorCodeDenied, "no")), 403,
			`{"errors":[{"code":"DENIED","message":"no"}]}`, ""},
		{"cause", &Error{Code: errcode.ErrorCodeManifestUnknown, Message: "no such manifest", Err: secret}, 404,
			`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}`, ""},
		{"detail", &Error{Code: errcode.ErrorCodeBlobUnknown, Message: "m", Detail: map[string]int{"n": 1}}, 404,
			`{"errors":[{"code":"BLOB_UNKNOWN","message":"m","detail":{"n":1}}]}`, ""},
		{"unprintable detail", &Error{Code: errcode.ErrorCodeBlobUnknown, Message: "m", Detail: func() {}}, 404,
			`{"errors":[{"code":"UNKNOWN","message":"unprintable error detail"}]}`, ""},
		{"status", &Error{Code: errcode.ErrorCodeUnavailable, Message: "m", Status: 504}, 504,
			`{"errors":[{"code":"UNAVAILABLE","message":"m"}]}`, ""},
		{"later", &Error{Code: errcode.ErrorCodeTooManyRequests, Message: "m", RetryAfter: 1001 * time.Millisecond}, 429,
			`{"errors":[{"code":"TOOMANYREQUESTS","message":"m"}]}`, "2"},
		{"any other", secret, 500, `{"errors":[{"code":"UNKNOWN","message":"internal error"}]}`, ""},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), 503, `{"errors":[{"code":"UNAVAILABLE","message":"the request was given up"}]}`, ""},
		{"left", context.Canceled, 503, `{"errors":[{"code":"UNAVAILABLE","message":"the request was given up"}]}`, ""},
		{"no code", &Error{Message: "m"}, 500, `{"errors":[{"code":"UNKNOWN","message":"m"}]}`, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			w := httptest.NewRecorder()
			// What was meant for the answer that could not be given.
			for _, k := range []string{"Docker-Content-Digest", "ETag", "Cache-Control", "Content-Range", "Content-Encoding", "Accept-Ranges"} {
				w.Header().Set(k, "x")
			}
			w.Header().Set("Content-Length", "12345")
			status := WriteError(w, httptest.NewRequest(method, "/v2/", nil), tc.err)
			body := tc.body
			if method == http.MethodHead {
				body = ""
			}
			if status != tc.status || w.Code != tc.status || w.Body.String() != body {
				t.Errorf("%s: got %d, %d, %s", tc.name, status, w.Code, w.Body)
			}
			want := http.Header{
				"Content-Type": {"application/json"}, "X-Content-Type-Options": {"nosniff"},
				"Content-Length": {fmt.Sprint(len(tc.body))}, "Accept-Ranges": {"x"},
			}
			if tc.retry != "" {
				want.Set("Retry-After", tc.retry)
			}
			if diff := cmp.Diff(want, w.Header()); diff != "" {
				t.Errorf("%s: headers (-want +got):\n%s", tc.name, diff)
			}
			if strings.Contains(w.Body.String(), "secret") || (method == http.MethodGet && !json.Valid(w.Body.Bytes())) {
				t.Errorf("%s: the body is %s", tc.name, w.Body)
			}
		}
	}
}

// A 416 tells the size.
func TestWriteErrorKeepsContentRange(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Range", "bytes */10")
	WriteError(w, httptest.NewRequest(http.MethodGet, "/", nil), &Error{Code: errcode.ErrorCodeRangeInvalid, Status: 416})
	if got := w.Header().Get("Content-Range"); w.Code != 416 || got != "bytes */10" {
		t.Errorf("got %d with Content-Range %q", w.Code, got)
	}
}

func TestErrorUnwraps(t *testing.T) {
	err := fmt.Errorf("serve: %w", &Error{Message: "m", Err: io.ErrClosedPipe})
	if !errors.Is(err, io.ErrClosedPipe) || err.Error() != "serve: m: io: read/write on closed pipe" {
		t.Errorf("got %v", err)
	}
}

// TestCauseIsSaidOnce: a cause that the client is told, too, stands in the log once.
func TestCauseIsSaidOnce(t *testing.T) {
	cause := errors.New("disk full")
	for _, tc := range []struct{ message, want string }{
		{"store it", "store it: disk full"},
		{"disk full", "disk full"},
		{"store it: disk full: make room", "store it: disk full: make room"},
	} {
		if got := (&Error{Message: tc.message, Err: cause}).Error(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}
