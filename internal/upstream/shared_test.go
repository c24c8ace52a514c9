package upstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		boom := errors.New("boom")
		calls, release := 0, make(chan struct{})
		fn := func(ctx context.Context) (int, error) {
			calls++
			select {
			case <-release:
				return 7, boom
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		results := make(chan error, 10)
		ctx, cancel := context.WithCancelCause(t.Context())
		for range 10 {
			go func() {
				v, err := s.do(ctx, "k", fn)
				if v != 0 {
					err = errors.New("a value for one who left")
				}
				results <- err
			}()
		}
		synctest.Wait()
		gone := errors.New("gone")
		cancel(gone)
		for range 10 {
			if err := <-results; !errors.Is(err, gone) {
				t.Errorf("got %v, want the caller's own cause", err)
			}
		}
		if calls != 1 || len(s.calls) != 0 {
			t.Errorf("%d calls, %d left; want 1, 0", calls, len(s.calls))
		}

		// What was given up does not stand in the way of the next.
		go func() { synctest.Wait(); close(release) }()
		if v, err := s.do(t.Context(), "k", fn); v != 7 || !errors.Is(err, boom) {
			t.Errorf("got %d, %v", v, err)
		}
		if calls != 2 || len(s.calls) != 0 {
			t.Errorf("%d calls, %d left; want 2, 0", calls, len(s.calls))
		}
	})
}

// TestSharedPanic: a fault is an error to all who wait, and stands in nobody's way.
func TestSharedPanic(t *testing.T) {
	var s shared[int]
	_, err := s.do(t.Context(), "k", func(context.Context) (int, error) { panic("boom") })
	if err == nil || !strings.Contains(err.Error(), "panic: boom") || !strings.Contains(err.Error(), "shared_test.go") {
		t.Errorf("got %v, want what and where", err)
	}
	if v, err := s.do(t.Context(), "k", func(context.Context) (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("after it: %d, %v", v, err)
	}
}
