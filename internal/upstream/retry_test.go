package upstream

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for h, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "7.5": 0, "x": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := parseRetryAfter(h, now); got != want {
			t.Errorf("%q: got %v, want %v", h, got, want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("7")
	f.Add("Fri, 02 Jan 2026 03:04:15 GMT")
	f.Fuzz(func(t *testing.T, h string) {
		if d := parseRetryAfter(h, time.Now()); d < 0 {
			t.Errorf("got %v", d)
		}
	})
}

// TestRetryPauses runs on a clock of its own.
func TestRetryPauses(t *testing.T) {
	throttled := func(after time.Duration) error {
		return &StatusError{Status: 429, RetryAfter: after}
	}
	down := &UnreachableError{Err: errors.New("down")}
	for _, tc := range []struct {
		name     string
		retries  int
		errs     []error // of one try after the other; then success
		tries    int
		min, max time.Duration
		fails    bool
	}{
		{"at once", 3, nil, 1, 0, 0, false},
		{"once", 3, []error{down}, 2, 50 * time.Millisecond, 100 * time.Millisecond, false},
		{"spent", 3, []error{down, down, down, down, down}, 4, 350 * time.Millisecond, 700 * time.Millisecond, true},
		{"never", -1, []error{down}, 1, 0, 0, true},
		{"long", 9, []error{down, down, down, down, down, down, down, down}, 9,
			(6300 + 2*5000) / 2 * time.Millisecond, (6300 + 2*5000) * time.Millisecond, false},
		{"asked to wait", 3, []error{throttled(3 * time.Second)}, 2, 3 * time.Second, 3 * time.Second, false},
		{"asked to wait for long", 3, []error{throttled(6 * time.Second)}, 1, 0, 0, true},
		{"for good", 3, []error{&StatusError{Status: 404}}, 1, 0, 0, true},
		{"policy", 3, []error{&PolicyError{}}, 1, 0, 0, true},
		{"protocol", 3, []error{&ProtocolError{}}, 1, 0, 0, true},
		{"digest", 3, []error{ErrDigest}, 1, 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := New(Options{Name: "test", URL: &url.URL{Scheme: "http", Host: "x"}, Retries: tc.retries})
				if err != nil {
					t.Fatal(err)
				}
				start, tries := time.Now(), 0
				err = c.retry(t.Context(), &request{op: opTags}, func() error {
					tries++
					if tries <= len(tc.errs) {
						return tc.errs[tries-1]
					}
					return nil
				})
				if took := time.Since(start); took < tc.min || took > tc.max {
					t.Errorf("took %v, want %v to %v", took, tc.min, tc.max)
				}
				if tries != tc.tries || (err != nil) != tc.fails || (err != nil && !errors.Is(err, tc.errs[tries-1])) {
					t.Errorf("tried %d times and got %v; want %d times, failing: %v", tries, err, tc.tries, tc.fails)
				}
			})
		})
	}
}

func TestRetryEndsWithTheCaller(t *testing.T) {
	gone := errors.New("gone")
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{Name: "test", URL: &url.URL{Scheme: "http", Host: "x"}, Backoff: time.Hour, MaxBackoff: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		down := func() error { return &UnreachableError{Err: errors.New("down")} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = c.retry(ctx, &request{op: opTags}, down)
		if !errors.Is(err, context.DeadlineExceeded) || !IsUnavailable(err) {
			t.Errorf("after the caller's deadline: %v", err)
		}
		ctx2, cancel2 := context.WithCancelCause(t.Context())
		go func() { synctest.Wait(); cancel2(gone) }()
		if err = c.retry(ctx2, &request{op: opTags}, down); !errors.Is(err, gone) || IsUnavailable(err) {
			t.Errorf("after the caller left: %v", err)
		}
	})
}
