package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// budgetLook is the least that is waited for a budget.
const budgetLook = 10 * time.Millisecond

// budgetPatience is how long one question waits for a budget: one that was spent
// all that time is too small for what is asked of the upstream.
const budgetPatience = time.Hour

// patiently repeats do for as long as our own budget for the upstream is what
// keeps it from asking: nobody who waits for an image to come here is in a hurry.
// What do asks is to be one request, or a part that is done stays done: of two in
// a row the second may be the one too many, each time.
func patiently(ctx context.Context, do func() error) error {
	for began := time.Now(); ; {
		err := do()
		if !errors.Is(err, upstream.ErrBudget) || time.Since(began) >= budgetPatience {
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

// lookAgain finds what a tag that is known here leads to now, by one request. An
// upstream that was silent is asked, too.
func (x *pull) lookAgain(ctx context.Context, up *Upstream, tag string) (found, error) {
	row, desc, err := x.p.knownTag(ctx, x.repo, tag)
	if errors.Is(err, storage.ErrNotFound) { // it has gone meanwhile
		return x.p.manifestByTag(ctx, up, x.repo, tag, false)
	}
	if err != nil {
		return found{}, err
	}
	got, err := x.p.checkTag(ctx, up, x.repo, row, checkTime)
	return orKnown(ctx, up, got, desc, err)
}
