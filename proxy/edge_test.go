package proxy

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// TestEdgeStatus holds what a client is told of an upstream's refusals.
func TestEdgeStatus(t *testing.T) {
	for _, tt := range []struct {
		upstream, status int
		code             string
		retry            bool
	}{
		{400, 502, "UNAVAILABLE", false},
		{401, 403, "DENIED", false},
		{402, 502, "UNAVAILABLE", false},
		{403, 403, "DENIED", false},
		{405, 502, "UNAVAILABLE", false},
		{408, 503, "UNAVAILABLE", true},
		{409, 502, "UNAVAILABLE", false},
		{416, 416, "RANGE_INVALID", false},
		{429, 429, "TOOMANYREQUESTS", true},
		{451, 502, "UNAVAILABLE", false},
		{500, 503, "UNAVAILABLE", true},
	} {
		cause := &upstream.StatusError{Upstream: "up", Op: "blob", Status: tt.upstream, Message: "its own words"}
		if tt.upstream == http.StatusTooManyRequests {
			cause.RetryAfter = time.Minute
		}
		e := oci.AsError(edge("blob x", fmt.Errorf("ask: %w", cause)))
		if e.HTTPStatus() != tt.status || e.Code.String() != tt.code || (e.RetryAfter > 0) != tt.retry {
			t.Errorf("upstream %d: %d %s, Retry-After %v; want %d %s", tt.upstream, e.HTTPStatus(), e.Code, e.RetryAfter, tt.status, tt.code)
		}
	}
	e := oci.AsError(edge("blob x", &upstream.RangeError{Size: -1}))
	if e.HTTPStatus() != http.StatusRequestedRangeNotSatisfiable || e.Code.String() != "RANGE_INVALID" {
		t.Errorf("outside: %d %s", e.HTTPStatus(), e.Code)
	}
}
