package ui

import (
	"cmp"
	"context"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// Queue is what is to be indexed, in short.
type Queue struct {
	Waiting   int       `json:"waiting"`
	PutOff    int       `json:"put_off"`   // failed, and are tried again by themselves
	Failed    int       `json:"failed"`    // given up until they are retried by hand
	Cancelled int       `json:"cancelled"` // by hand
	Running   []Running `json:"running"`
}

// Running is a layer that is being indexed.
type Running struct {
	Layer      digest.Digest `json:"layer"`
	Repository string        `json:"repository,omitempty"`
	Bytes      int64         `json:"bytes"` // read so far
	Size       int64         `json:"size"`  // of the layer; 0: not known
}

// Percent is how far it is.
func (r Running) Percent() int {
	if r.Size <= 0 {
		return 0
	}
	return int(min(100, 100*r.Bytes/r.Size))
}

// Jobs is the queue. Of a long one the first are shown.
type Jobs struct {
	Queue
	Jobs []web.Job `json:"jobs"`           // that failed, were put off, and wait
	More int       `json:"more,omitempty"` // that are not shown
}

const (
	// shownJobs is how many jobs of one state a page has at most, and shownBytes
	// how large all of them make it at most: errors and names are long and short.
	shownJobs  = 100
	shownBytes = 80_000
	// jobsFresh is for how long a look at the queue is good: to read a long one
	// for each viewer would cost what indexing needs.
	jobsFresh = 2 * time.Second
)

// jobsCache is the last look at the queue.
type jobsCache struct {
	mu   sync.Mutex
	at   time.Time
	jobs Jobs
}

func (c *jobsCache) forget() {
	c.mu.Lock()
	c.at = time.Time{}
	c.mu.Unlock()
}

func (u *UI) queue(ctx context.Context) (Queue, error) {
	j, err := u.allJobs(ctx)
	return j.Queue, err
}

func (u *UI) allJobs(ctx context.Context) (Jobs, error) {
	u.jobs.mu.Lock()
	defer u.jobs.mu.Unlock()
	if now := u.now(); now.Sub(u.jobs.at) >= jobsFresh || now.Before(u.jobs.at) {
		list, err := web.Jobs(ctx, u.opt.Store, now)
		if err != nil {
			return Jobs{}, err
		}
		u.jobs.jobs, u.jobs.at = sortJobs(list), now
	}
	j := u.jobs.jobs
	var err error
	j.Running, err = u.running(ctx)
	return j, err
}

// shownStates are in the order of a page.
var shownStates = []string{web.JobFailed, web.JobPutOff, web.JobWaiting, web.JobCancelled}

func sortJobs(list []web.Job) Jobs {
	var j Jobs
	by := map[string][]web.Job{}
	for i := range list {
		s := list[i].State
		switch s {
		case web.JobFailed:
			j.Failed++
		case web.JobPutOff:
			j.PutOff++
		case web.JobCancelled:
			j.Cancelled++
		default:
			j.Waiting++
		}
		if len(by[s]) < shownJobs {
			by[s] = append(by[s], list[i])
		}
	}
	j.Jobs = []web.Job{}
	fits := whatFits(by)
	for _, s := range shownStates {
		j.Jobs = append(j.Jobs, by[s][:fits[s]]...)
	}
	j.More = len(list) - len(j.Jobs)
	return j
}

// whatFits says how many jobs of each state fit on a page: an equal part of it for
// each, and what one leaves is for the others.
func whatFits(by map[string][]web.Job) map[string]int {
	need, fits := map[string]int{}, map[string]int{}
	for s, jobs := range by {
		for i := range jobs {
			need[s] += rowBytes(&jobs[i])
		}
	}
	left := shownBytes
	states := slices.SortedFunc(slices.Values(shownStates), func(a, b string) int { return cmp.Compare(need[a], need[b]) })
	for i, s := range states {
		most := left / (len(states) - i)
		for fits[s] < len(by[s]) {
			n := rowBytes(&by[s][fits[s]])
			if most -= n; most < 0 {
				break
			}
			left -= n
			fits[s]++
		}
	}
	return fits
}

// rowBytes is about how many bytes a job's row has, which names it three times.
func rowBytes(j *web.Job) int {
	return 620 + 3*(len(j.Repository)+len(j.Reference)) + len(template.HTMLEscapeString(j.Error))
}

func (u *UI) running(ctx context.Context) ([]Running, error) {
	list := []Running{}
	if u.opt.Running == nil {
		return list, nil
	}
	building := u.opt.Running()
	if len(building) == 0 {
		return list, nil
	}
	err := u.opt.Store.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		for _, b := range building {
			x := Running{Layer: b.Layer, Bytes: b.Bytes}
			err := tx.ImagesOf(b.Layer, func(row storage.ImageRow) error {
				for _, l := range row.Layers {
					if l.Descriptor.Digest == b.Layer {
						x.Size = l.Descriptor.Size
					}
				}
				if len(row.Repos) > 0 {
					x.Repository = row.Repos[0].String()
				}
				return errEnough
			})
			if err != nil && !errors.Is(err, errEnough) {
				return err
			}
			list = append(list, x)
		}
		return nil
	})
	return list, err
}

var errEnough = errors.New("enough")

// Changed says how many jobs a request changed.
type Changed struct {
	Jobs int `json:"jobs"`
}

type changeJob func(ctx context.Context, s *storage.Store, id string) (int, error)

// change changes a job, or with "" all that failed.
func (u *UI) change(ctx context.Context, id string, change changeJob) (Changed, error) {
	n, err := change(ctx, u.opt.Store, id)
	if err != nil {
		return Changed{}, web.OperatorError(err)
	}
	u.jobs.forget()
	if u.opt.Wake != nil {
		u.opt.Wake()
	}
	return Changed{n}, nil
}

// Missing is what was asked for in vain.
type Missing struct {
	Missing []web.MissingThing `json:"missing"`
	More    int                `json:"more,omitempty"`
}

const shownMissing = 200

func (u *UI) missing(r *http.Request) (*Missing, error) {
	list, err := web.MissingThings(r.Context(), u.opt.Store)
	if err != nil {
		return nil, err
	}
	m := &Missing{Missing: list}
	if len(list) > shownMissing {
		m.Missing, m.More = list[:shownMissing], len(list)-shownMissing
	}
	return m, nil
}
