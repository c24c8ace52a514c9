package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Job is work that waits, or is under way: a layer to index, or a task about an
// image.
type Job struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`       // layer, image, catalog, convert, push
	Repository string    `json:"repository"` // canonical
	Reference  string    `json:"reference"`  // layer, tag or digest
	State      string    `json:"state"`      // waiting, put-off (until NotBefore), failed or cancelled; of a layer running, where that is known
	Size       int64     `json:"size,omitempty"`
	Done       int64     `json:"done,omitempty"` // bytes of a running one that were read
	Priority   int       `json:"priority,omitempty"`
	Attempts   int       `json:"attempts"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	Error      string    `json:"error,omitempty"` // of the last attempt
	Created    time.Time `json:"created"`
	Paused     string    `json:"paused,omitempty"` // why it is not gone on with at this moment, though its turn has come
}

// States of a Job.
const (
	JobRunning = "running"
	JobWaiting = "waiting"
	JobPutOff  = "put-off"
	JobFailed  = "failed" // given up, until it is retried by hand

	JobCancelled = "cancelled" // by hand: not done, until it is retried by hand
)

const kindLayer = "layer"

// Jobs lists what waits: tasks, then layers, each in the order in which they
// are taken.
func Jobs(ctx context.Context, v Viewer, now time.Time) ([]Job, error) {
	list := []Job{}
	err := v.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		err := tx.Tasks(func(t storage.TaskRow) error {
			list = append(list, taskJob(&t, now))
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		return tx.Jobs(func(j storage.JobRow) error {
			list = append(list, layerJob(&j, now))
			return ctx.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return list, nil
}

func taskJob(t *storage.TaskRow, now time.Time) Job {
	sep := ":"
	if _, err := oci.ParseDigest(t.Reference); err == nil {
		sep = "@"
	}
	return Job{
		ID: string(t.Kind) + ":" + t.Repo.String() + sep + t.Reference, Kind: string(t.Kind), Repository: t.Repo.String(),
		Reference: t.Reference, State: jobState(t.Failed, t.Cancelled, t.NotBefore, now), Priority: t.Priority, Attempts: t.Attempts,
		NotBefore: t.NotBefore, Error: t.LastError, Created: t.Created,
	}
}

func layerJob(j *storage.JobRow, now time.Time) Job {
	d := j.Layer.Digest
	return Job{
		ID: "layer:" + d.String() + "/" + strconv.FormatInt(j.SpanSize, 10), Kind: kindLayer, Repository: j.Layer.Repo.String(),
		Reference: d.String(), State: jobState(j.Failed, j.Cancelled, j.NotBefore, now), Size: j.Layer.Size, Priority: j.Priority,
		Attempts: j.Attempts, NotBefore: j.NotBefore, Error: j.LastError, Created: j.Created,
	}
}

func jobState(failed, cancelled bool, notBefore, now time.Time) string {
	switch {
	case cancelled:
		return JobCancelled
	case failed:
		return JobFailed
	case notBefore.After(now):
		return JobPutOff
	}
	return JobWaiting
}

// RetryJob has a job be taken at its next turn, as if it never had failed; "" is
// every one that failed. It gives how many. storage.ErrNotFound.
func RetryJob(ctx context.Context, s *storage.Store, id string) (int, error) {
	return changeJobs(ctx, s, id, func(tx storage.Tx, t *storage.TaskRow, j *storage.JobRow) error {
		if t != nil {
			t.Attempts, t.NotBefore, t.Failed, t.Cancelled = 0, time.Time{}, false, false
			return tx.PutTask(*t)
		}
		j.Attempts, j.NotBefore, j.Failed, j.Cancelled = 0, time.Time{}, false, false
		return tx.PutJob(*j)
	})
}

// CancelJob has a job not be done; "" is every one that failed. It stays in the
// list, and so is not filed anew, until it is retried, or what it was about comes
// to be in another way: by a pull, say. storage.ErrNotFound.
func CancelJob(ctx context.Context, s *storage.Store, id string) (int, error) {
	return changeJobs(ctx, s, id, func(tx storage.Tx, t *storage.TaskRow, j *storage.JobRow) error {
		if t != nil {
			if t.Kind == storage.TaskCatalog { // by nobody but an operator
				return tx.DeleteTask(t.Kind, t.Repo, t.Reference)
			}
			t.Cancelled = true
			return tx.PutTask(*t)
		}
		j.Cancelled = true
		return tx.PutJob(*j)
	})
}

var errWaits = errors.New("only what failed or was cancelled is forgotten")

// ClearJob forgets a job that failed or was cancelled; "" is every one that failed.
// It is filed anew when there is reason to, by a pull, say. storage.ErrNotFound.
func ClearJob(ctx context.Context, s *storage.Store, id string) (int, error) {
	return changeJobs(ctx, s, id, func(tx storage.Tx, t *storage.TaskRow, j *storage.JobRow) error {
		switch {
		case t != nil && (t.Failed || t.Cancelled):
			return tx.DeleteTask(t.Kind, t.Repo, t.Reference)
		case j != nil && (j.Failed || j.Cancelled):
			return tx.DeleteJob(j.Layer.Digest, j.SpanSize)
		}
		return fmt.Errorf("the job %.300q still waits, cancel it first: %w", id, errWaits)
	})
}

// changeJobs changes the job id, or all that failed.
func changeJobs(ctx context.Context, s *storage.Store, id string, change func(storage.Tx, *storage.TaskRow, *storage.JobRow) error) (n int, err error) {
	now := time.Time{}
	wants := func(x *Job) bool { return x.ID == id || id == "" && x.State == JobFailed }
	err = s.Update(ctx, func(tx storage.Tx) error {
		n = 0
		var tasks []storage.TaskRow
		var layers []storage.JobRow
		err := tx.Tasks(func(t storage.TaskRow) error {
			if x := taskJob(&t, now); wants(&x) {
				tasks = append(tasks, t)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Jobs(func(j storage.JobRow) error {
			if x := layerJob(&j, now); wants(&x) {
				layers = append(layers, j)
			}
			return nil
		})
		for i := range tasks {
			if err == nil {
				err = change(tx, &tasks[i], nil)
			}
		}
		for i := range layers {
			if err == nil {
				err = change(tx, nil, &layers[i])
			}
		}
		n = len(tasks) + len(layers)
		if err == nil && n == 0 && id != "" {
			err = isNotHere("no job has the id %.300q", id)
		}
		return err
	})
	return n, err
}

// Withdrawn is an image of which no index is offered any more.
type Withdrawn struct {
	Reference string          `json:"reference"`
	Digest    digest.Digest   `json:"digest"`
	Indexes   []digest.Digest `json:"indexes"` // that were offered, v1 and v2; by digest they are readable for a while yet
	// Upstream is what was pushed to the image's upstream, and stays there.
	Upstream []Published `json:"upstream,omitempty"`
	// Elsewhere are the other repositories that have an image of it, of which
	// nothing was withdrawn.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// Withdraw takes the indexes of an image off what is offered in the repository
// that name means, or, named by its digest alone, everywhere, for good: until an
// index of it is asked for by hand. storage.ErrNotFound.
func Withdraw(ctx context.Context, s *storage.Store, name string) (w Withdrawn, err error) {
	err = s.Update(ctx, func(tx storage.Tx) error {
		x, err := Resolve(tx, name)
		if err != nil {
			return err
		}
		w = Withdrawn{Reference: x.Reference, Digest: x.Digest}
		from := x.Repo
		if d, err := oci.ParseDigest(name); err == nil {
			from, w.Reference = oci.Repo{}, d.String()
		}
		if w.Indexes, err = storage.WithdrawIndexes(tx, from, x.Digest, time.Now().UTC()); err != nil {
			return err
		}
		if w.Upstream, err = pushed(tx, from, x.Digest); err == nil {
			w.Elsewhere, err = elsewhere(tx, from, x.Digest)
		}
		return err
	})
	return w, err
}

// elsewhere gives the repositories in which an image of root is not withdrawn.
func elsewhere(tx storage.Tx, from oci.Repo, root digest.Digest) (names []string, err error) {
	all, err := storage.Below(tx, root)
	for _, d := range all {
		if err != nil {
			return nil, err
		}
		var img storage.ImageRow
		if img, err = tx.Image(d); err != nil {
			err = ignoreNotFound(err)
			continue
		}
		for _, repo := range img.Repos {
			if name := repo.String(); repo != from && !img.WithdrawnFrom(repo) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, err
}

func (s *Web) jobs(w http.ResponseWriter, r *http.Request) error {
	list, err := Jobs(r.Context(), s.opt.Store, time.Now())
	if err != nil {
		return err
	}
	if s.opt.Creator != nil {
		markRunning(list, s.opt.Creator.Index)
	}
	if s.opt.Paused != nil {
		markPaused(list, s.opt.Paused())
	}
	return sendJSON(w, list)
}

// markPaused notes why what would be done is not; "": it is.
func markPaused(list []Job, why string) {
	for i := range list {
		if x := &list[i]; (x.State == JobWaiting || x.State == JobRunning) && x.Kind != string(storage.TaskConvert) {
			x.Paused = why
		}
	}
}

// markRunning notes which layers are being read at this moment, and how far that is.
func markRunning(list []Job, index Asker) {
	for i := range list {
		x := &list[i]
		if x.Kind != kindLayer || x.State == JobCancelled {
			continue
		}
		_, size, _ := strings.Cut(x.ID, "/")
		spanSize, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			continue
		}
		if n := index.Progress(digest.Digest(x.Reference), spanSize); n > 0 {
			x.State, x.Done, x.NotBefore = JobRunning, min(n, x.Size), time.Time{}
		}
	}
}

// changed is the answer of a change to jobs.
type changed struct {
	Jobs int `json:"jobs"`
}

func (s *Web) changeJob(change func(context.Context, *storage.Store, string) (int, error)) oci.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		var q named
		if err := receive(w, r, &q); err != nil {
			return err
		}
		n, err := change(r.Context(), s.opt.Store, q.Name)
		if err != nil {
			return operatorError(err)
		}
		if s.opt.Wake != nil {
			s.opt.Wake()
		}
		return sendJSON(w, changed{n})
	}
}

func (s *Web) withdraw(w http.ResponseWriter, r *http.Request) error {
	var q named
	if err := receive(w, r, &q); err != nil {
		return err
	}
	out, err := Withdraw(r.Context(), s.opt.Store, q.Name)
	if err != nil {
		return operatorError(err)
	}
	s.log.InfoContext(r.Context(), "indexes withdrawn", "name", out.Reference, "digest", out.Digest, "indexes", len(out.Indexes))
	return sendJSON(w, out)
}
