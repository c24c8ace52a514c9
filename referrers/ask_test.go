package referrers

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

const answerTTL = 10 * time.Second

// scripted is an upstream that counts and takes its time.
type scripted struct {
	calls atomic.Int32
	takes time.Duration
	list  []v1.Descriptor
	err   error
}

func (u *scripted) ask(ctx context.Context, _ oci.Repo, _ digest.Digest) ([]v1.Descriptor, error) {
	u.calls.Add(1)
	select {
	case <-time.After(u.takes):
		return u.list, u.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func TestManyAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &scripted{takes: 100 * time.Millisecond, list: []v1.Descriptor{entry(1, signature)}}
		a := newAsker(u.ask, time.Second, answerTTL, nil)
		var wg sync.WaitGroup
		var asked atomic.Int32
		for range 50 {
			wg.Go(func() {
				got, mine, err := a.ask(t.Context(), repo, subject)
				if mine {
					asked.Add(1)
				}
				if diff := cmp.Diff(u.list, got.rest); diff != "" || err != nil {
					t.Errorf("error %v, list (-want +got):\n%s", err, diff)
				}
			})
		}
		wg.Wait()
		if u.calls.Load() != 1 || asked.Load() != 1 {
			t.Errorf("%d calls by %d callers, want 1 by 1", u.calls.Load(), asked.Load())
		}
	})
}

func TestAnswersAreForgotten(t *testing.T) {
	failure := errors.New("bad gateway")
	for _, tt := range []struct {
		name string
		err  error
		ttl  time.Duration
	}{{"answer", nil, answerTTL}, {"failure", failure, failureTTL}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &scripted{err: tt.err}
				a := newAsker(u.ask, time.Second, answerTTL, nil)
				for _, step := range []struct {
					wait  time.Duration
					calls int32
				}{{0, 1}, {tt.ttl - 1, 1}, {1, 2}, {0, 2}} {
					time.Sleep(step.wait)
					if _, _, err := a.ask(t.Context(), repo, subject); !errors.Is(err, tt.err) {
						t.Errorf("error %v, want %v", err, tt.err)
					}
					if got := u.calls.Load(); got != step.calls {
						t.Errorf("%d calls after %v, want %d", got, step.wait, step.calls)
					}
				}
			})
		})
	}
}

// TestLeavingHurtsNobody: the caller who asks goes away, those who joined still
// get the answer; one who joined goes away at once.
func TestLeavingHurtsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &scripted{takes: 500 * time.Millisecond}
		a := newAsker(u.ask, time.Second, answerTTL, nil)
		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = a.ask(leaving, repo, subject) })
		synctest.Wait()
		wg.Go(func() {
			if _, mine, err := a.ask(t.Context(), repo, subject); mine || err != nil {
				t.Errorf("joined: mine %v, error %v", mine, err)
			}
		})
		wg.Go(func() {
			if _, _, err := a.ask(leaving, repo, subject); !errors.Is(err, context.Canceled) {
				t.Errorf("left: error %v", err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
		if got := u.calls.Load(); got != 1 {
			t.Errorf("%d calls, want 1", got)
		}
	})
}

// TestPanicFreesTheOthers: an upstream that panics must not leave callers waiting.
func TestPanicFreesTheOthers(t *testing.T) {
	a := newAsker(func(context.Context, oci.Repo, digest.Digest) ([]v1.Descriptor, error) { panic("bug") }, time.Second, answerTTL, nil)
	func() {
		defer func() { _ = recover() }()
		_, _, _ = a.ask(t.Context(), repo, subject)
	}()
	if _, mine, err := a.ask(t.Context(), repo, subject); mine || !errors.Is(err, errCut) {
		t.Errorf("mine %v, error %v, want %v of the one before", mine, err, errCut)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	big := entry(1, signature)
	big.Annotations = map[string]string{"k": strings.Repeat("v", maxAnswerBytes/10)}
	list := []v1.Descriptor{big}
	a := newAsker(func(context.Context, oci.Repo, digest.Digest) ([]v1.Descriptor, error) { return list, nil }, time.Second, answerTTL, nil)
	ask := func(n int) {
		for i := range n {
			_, _, err := a.ask(t.Context(), repo, entry(i, "").Digest)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(100)
	if len(a.answers) != 9 || a.bytes > maxAnswerBytes {
		t.Errorf("%d answers with %d bytes are kept, want 9 with at most %d", len(a.answers), a.bytes, maxAnswerBytes)
	}
	list = nil
	ask(2 * maxAnswers)
	if len(a.answers) != maxAnswers || a.byAge.Len() != maxAnswers || a.bytes > maxAnswerBytes {
		t.Errorf("%d answers with %d bytes are kept, want %d", len(a.answers), a.bytes, maxAnswers)
	}
}

func TestOurIndexNeedsNoUpstream(t *testing.T) {
	u := &scripted{}
	s := New(Options{Store: newStore(t, entry(1, oci.MediaTypeSOCIIndexV1)), Upstream: u.ask})
	get(t, s, "GET", filtered(oci.MediaTypeSOCIIndexV1))
	if got := u.calls.Load(); got != 0 {
		t.Errorf("%d calls, want 0", got)
	}
}
