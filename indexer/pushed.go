package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// maxWaitingTasks bounds what is filed because somebody else tells of it.
	maxWaitingTasks = 100_000
	// untaggedDelay is how long the image of a push without a tag waits: most are a
	// platform's, and the index that says so follows.
	untaggedDelay = 30 * time.Second
)

// ErrQueueFull is why Pushed files nothing.
var ErrQueueFull = errors.New("too many tasks wait")

// Pushed files the indexing of images that were pushed to upstreams, where a rule
// wants them, and gives of how many something is to be done now that was not
// before. What was made here and pushed from here is none of them. Repeating it
// changes nothing but that the upstream is asked again. ErrQueueFull.
func (x *Indexer) Pushed(ctx context.Context, pushes []oci.Pushed) (queued int, err error) {
	pushes = slices.DeleteFunc(slices.Clone(pushes), func(p oci.Pushed) bool {
		return x.opt.Disabled || x.opt.Fetch == nil || isReferrersTag(p.Tag) || x.ruleFor(named{p.Repo, pushedTag(p)}) == nil
	})
	if len(pushes) == 0 {
		return 0, nil
	}
	full := false
	err = x.store.View(ctx, func(tx storage.Tx) (err error) {
		full, err = isFull(tx, maxWaitingTasks)
		return err
	})
	if err == nil && full {
		err = ErrQueueFull
	}
	if err == nil {
		err = x.store.Update(ctx, func(tx storage.Tx) error {
			queued = 0
			for _, p := range pushes {
				isNew, err := x.filePush(tx, p)
				if err != nil {
					return err
				}
				if isNew {
					queued++
				}
			}
			return nil
		})
	}
	if err != nil {
		return 0, fmt.Errorf("file pushes: %w", err)
	}
	wake(x.toTask)
	return queued, nil
}

// isFull reports whether so many tasks wait, or are being done.
func isFull(tx storage.Tx, most int) (bool, error) {
	n := 0
	err := tx.Tasks(func(t storage.TaskRow) error {
		if t.Failed || t.Cancelled { // it waits for a person
			return nil
		}
		if n++; n >= most {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return true, nil
	}
	return false, err
}

func pushedTag(p oci.Pushed) []string { return tagOf(oci.Reference{Tag: p.Tag}) }

// filePush files one push, unless the same is filed already.
func (x *Indexer) filePush(tx storage.Tx, p oci.Pushed) (bool, error) {
	if p.Digest != "" {
		if made, err := isMadeHere(tx, p.Digest); err != nil || made {
			return false, err
		}
	}
	now := x.now().UTC()
	t := storage.TaskRow{Kind: storage.TaskImage, Repo: p.Repo, Reference: p.Tag, Digest: p.Digest, Told: true, Created: now}
	if p.Tag == "" {
		t.Reference, t.NotBefore = p.Digest.String(), now.Add(untaggedDelay)
	}
	if rule := x.ruleFor(named{p.Repo, pushedTag(p)}); rule != nil {
		t.Priority = rule.Priority
	}
	was, err := tx.Task(t.Kind, t.Repo, t.Reference)
	if err = ignoreNotFound(err); err != nil {
		return false, err
	}
	same := was.Kind != "" && was.Digest == p.Digest
	switch {
	case was.Cancelled && (same || p.Tag == ""): // sent again
		return false, nil
	case same && !was.Failed && !was.Cancelled && !x.isRunning(taskWork(&was)):
		return false, nil
	case p.Tag == "":
		return true, tx.PutTask(t)
	}
	row, err := tx.Tag(p.Repo, p.Tag)
	if err == nil && (p.Digest == "" || row.Digest != p.Digest) {
		row.Checked = time.Time{} // whoever asks for it now asks the upstream
		err = tx.PutTag(row)
	}
	if err = ignoreNotFound(err); err != nil {
		return false, err
	}
	return true, tx.PutTask(t)
}

// errNotThere: a registry tells of a push before it shows it.
var errNotThere = errors.New("the registry does not show yet what was pushed")

// soonAgain is when it is looked again at first: most registries tell of a manifest a
// moment before they file its tag.
var soonAgain = [...]time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 500 * time.Millisecond}

// notThereTries is how often it is looked again in all.
const notThereTries = len(soonAgain) + 3

// isEarly reports that the failure of t says no more than that it was looked too early.
func isEarly(t *storage.TaskRow, cause error) bool {
	return errors.Is(cause, errNotThere) && t.Attempts < len(soonAgain)
}

// taskPause is how long t, which failed so often, waits until it is tried again.
func taskPause(attempts int, cause error) time.Duration {
	switch {
	case !errors.Is(cause, errNotThere):
		return backoff(attempts)
	case attempts <= len(soonAgain):
		return soonAgain[attempts-1]
	default:
		return backoff(attempts - len(soonAgain))
	}
}

// isPlatforms reports whether an index that is known names the image of t, which
// was pushed without a tag: then its platform decides, in the index's own task.
func (x *Indexer) isPlatforms(ctx context.Context, t *storage.TaskRow) (named bool, err error) {
	if t.Digest == "" || t.Reference != t.Digest.String() {
		return false, nil
	}
	err = x.store.View(ctx, func(tx storage.Tx) error {
		roots, err := rootsOf(tx, t.Digest)
		named = len(roots) > 1
		return err
	})
	return named, err
}
