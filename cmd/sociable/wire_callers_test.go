package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/upstream"
)

// TestCallerError: what an upstream's client says about a caller is told apart.
func TestCallerError(t *testing.T) {
	status := func(code int) error {
		return fmt.Errorf("ask: %w", &upstream.StatusError{Upstream: "up", Status: code, RetryAfter: 9 * time.Second})
	}
	budget := fmt.Errorf("ask: %w", &upstream.HeldError{Throttled: true, RetryAfter: 5 * time.Second, Err: upstream.ErrBudget})
	for _, c := range []struct {
		err   error
		is    error // nil: none of them
		after time.Duration
		why   string
	}{
		{status(http.StatusUnauthorized), access.ErrRefused, 0, ""},
		{status(http.StatusNotFound), access.ErrUnknown, 0, ""},
		{status(http.StatusBadGateway), nil, 0, ""},
		{errors.New("no route"), nil, 0, ""},
		{status(http.StatusTooManyRequests), nil, 9 * time.Second, "slow down"},
		{budget, nil, 5 * time.Second, "requests_per_minute"},
	} {
		got := callerError(c.err)
		for _, kind := range []error{access.ErrRefused, access.ErrUnknown} {
			if errors.Is(got, kind) != (kind == c.is) { //nolint:errorlint // the very value
				t.Errorf("%v: is %q: %t", c.err, kind, errors.Is(got, kind))
			}
		}
		held, ok := errors.AsType[*access.HeldError](got)
		if ok != (c.why != "") || ok && (held.After != c.after || !strings.Contains(held.Why, c.why)) {
			t.Errorf("%v: held %+v, want %v for %q", c.err, held, c.after, c.why)
		}
		if !errors.Is(got, c.err) {
			t.Errorf("%v: the cause is lost in %v", c.err, got)
		}
	}
	if callerError(nil) != nil {
		t.Error("an error of nothing")
	}
}
