package prewarm

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream has images, of each of which a digest is what changes.
type upstream struct {
	mu      sync.Mutex
	tags    map[string]string // repository:tag to content
	here    map[string]bool   // content
	pulls   []string
	active  int
	running int
	most    int
}

func (u *upstream) Name(word string) (oci.Repo, oci.Reference, error) {
	repo, tag, ok := cut(word)
	if repo == "bad" {
		return oci.Repo{}, oci.Reference{}, errors.New("no such upstream")
	}
	if !ok {
		tag = "latest"
	}
	return oci.Repo{Upstream: "up", Name: repo}, oci.Reference{Tag: tag}, nil
}

func cut(word string) (string, string, bool) {
	for i := range word {
		if word[i] == ':' {
			return word[:i], word[i+1:], true
		}
	}
	return word, "", false
}

func (u *upstream) TagsOf(_ context.Context, repo oci.Repo) (tags []string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name := range u.tags {
		if r, tag, _ := cut(name); r == repo.Name {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, nil
}

func (u *upstream) Active() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.active
}

func (u *upstream) Pull(ctx context.Context, repo oci.Repo, ref oci.Reference, o oci.PullOptions) (got oci.PulledImage, err error) {
	name := repo.Name + ":" + ref.Tag
	u.mu.Lock()
	content, ok := u.tags[name]
	here := u.here[content]
	u.running++
	u.most = max(u.most, u.running)
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.running--
		u.pulls = append(u.pulls, name)
		u.mu.Unlock()
	}()
	time.Sleep(time.Second) // in a bubble
	if !ok {
		return got, errors.New("no such tag")
	}
	if !o.Strict {
		return got, errors.New("an image for another platform would be taken")
	}
	got.Root.Digest = digest.FromString(content)
	if !here {
		if err := o.Gate(ctx); err != nil {
			return got, err
		}
		got.Fetched = 10
		u.mu.Lock()
		u.here[content] = true
		u.mu.Unlock()
	}
	return got, nil
}

func (u *upstream) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pulls
	u.pulls = nil
	slices.Sort(p)
	return p
}

type every time.Duration

func (e every) Next(t time.Time) time.Time { return t.Add(time.Duration(e)) }

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{tags: map[string]string{"a:1.0": "x", "a:1.1": "y", "a:2.0": "z", "b:1": "b"}, here: map[string]bool{}}
		reg := prometheus.NewRegistry()
		p := New(Options{Images: u, Parallel: 2, PauseAbove: 3, Registerer: reg, Jobs: []Job{
			{Images: []string{"a:1.*", "b:1", "none:1", "bad:*"}, Schedule: every(time.Hour)},
			{Images: []string{"a:2.0"}, Schedule: every(24 * time.Hour)},
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		want := func(after time.Duration, pulls ...string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if diff := cmp.Diff(pulls, u.take()); diff != "" {
				t.Errorf("looked at (-want +got):\n%s", diff)
			}
		}
		result := func(word string) float64 { return testutil.ToFloat64(p.m.images.WithLabelValues(word)) }
		want(time.Minute, "a:1.0", "a:1.1", "a:2.0", "b:1", "none:1")
		if result(resultPulled) != 4 || result(resultFailed) != 2 || u.most > 2 {
			t.Errorf("%v pulled, %v failed, %d at once", result(resultPulled), result(resultFailed), u.most)
		}
		if never, once := testutil.ToFloat64(p.m.last.WithLabelValues("0")), testutil.ToFloat64(p.m.last.WithLabelValues("1")); never != 0 || once == 0 {
			t.Errorf("the job that fails ended well at %v, that which does not at %v", never, once)
		}
		u.mu.Lock()
		u.tags["a:1.2"], u.tags["b:1"], u.active = "new", "moved", 4 // and clients are busy
		u.mu.Unlock()
		want(time.Hour, "a:1.0", "a:1.1") // the next two hold both places
		if n := testutil.ToFloat64(p.m.paused); n != 2 {
			t.Errorf("%v are paused, want 2", n)
		}
		u.mu.Lock()
		u.active = 3
		u.mu.Unlock()
		want(time.Minute, "a:1.2", "b:1", "none:1")
		if result(resultPulled) != 6 || result(resultSame) != 2 || testutil.ToFloat64(p.m.paused) != 0 {
			t.Errorf("%v pulled, %v the same", result(resultPulled), result(resultSame))
		}
		// What is pushed is looked at in a moment, and nothing else is.
		up := func(name string) oci.Repo { return oci.Repo{Upstream: "up", Name: name} }
		u.mu.Lock()
		u.tags["a:1.9"], u.tags["b:1"] = "pushed", "pushed, too"
		u.mu.Unlock()
		for _, x := range []struct{ name, tag string }{{"a", "1.9"}, {"a", "1.9"}, {"b", "1"}, {"b", "2"}, {"a", "3.0"}, {"c", "1"}, {"a", "2.0"}} {
			p.Pushed(up(x.name), x.tag)
		}
		want(10*time.Second, "a:1.9", "a:2.0", "b:1")
		for i := range 2 * maxPushed { // more than are remembered: all of the job
			p.Pushed(up("a"), "1."+strconv.Itoa(i))
		}
		want(time.Minute, "a:1.0", "a:1.1", "a:1.2", "a:1.9", "b:1", "none:1")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
