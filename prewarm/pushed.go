package prewarm

import (
	"context"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

const (
	// settle is left between a push and the look at what was pushed: an image for
	// several platforms comes in several pushes, and its tag with the last.
	settle = time.Second
	// maxPushed bounds the images that wait for a look; all of the job are looked
	// at when there are more.
	maxPushed = 1000
)

// follower is a Job at work.
type follower struct {
	*Job
	last prometheus.Gauge // when a look at all of it last ended well
	wake chan struct{}    // has room for one: something was pushed

	mu     sync.Mutex
	pushed map[string]struct{} // images to look at before it is time
}

func newFollower(j *Job) *follower {
	return &follower{Job: j, wake: make(chan struct{}, 1), pushed: map[string]struct{}{}}
}

// Follows reports whether any image is followed.
func (p *Prewarmer) Follows() bool { return len(p.jobs) > 0 }

// Pushed says that a tag was pushed here, or through here. Where it is followed it
// is looked at in a moment, whatever the schedule says. It never waits.
func (p *Prewarmer) Pushed(repo oci.Repo, tag string) {
	for _, f := range p.jobs {
		for _, word := range f.Images {
			if name, ok := p.follows(word, repo, tag); ok {
				f.note(name)
			}
		}
	}
}

// follows gives the image of the tag in repo as word, which may have a pattern of
// tags, names it.
func (p *Prewarmer) follows(word string, repo oci.Repo, tag string) (name string, ok bool) {
	stem, pattern := splitTag(word)
	if pattern == "" {
		pattern = "latest"
	}
	got, ref, err := p.opt.Images.Name(stem)
	if err != nil || got != repo || ref.Digest != "" {
		return "", false
	}
	ok, err = path.Match(pattern, tag)
	return stem + ":" + tag, ok && err == nil
}

// splitTag cuts the tag, or the pattern of tags, off a reference; "" where it has
// none.
func splitTag(word string) (stem, tag string) {
	if i := strings.LastIndexByte(word, ':'); i > strings.LastIndexByte(word, '/') && !strings.Contains(word, "@") {
		return word[:i], word[i+1:]
	}
	return word, ""
}

func (f *follower) note(name string) {
	f.mu.Lock()
	if len(f.pushed) < maxPushed {
		f.pushed[name] = struct{}{}
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default: // it is awake already
	}
}

// take gives the images that were pushed, once they have settled.
func (f *follower) take(ctx context.Context) (names []string) {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pushed) == maxPushed {
		names = f.Images
	} else {
		for name := range f.pushed {
			names = append(names, name)
		}
	}
	f.pushed = map[string]struct{}{}
	return names
}
