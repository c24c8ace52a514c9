package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/sociable/sociable/internal/upstream"
)

// budgetLook is the least that is waited for a budget.
const budgetLook = 10 * time.Millisecond

// patiently repeats do for as long as our own budget for the upstream is what
// keeps it from asking: nobody who waits for an image to come here is in a hurry.
func patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, upstream.ErrBudget) {
			return err
		}
		t := time.NewTimer(max(upstream.RetryAfter(err), budgetLook))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}
