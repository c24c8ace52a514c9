package access

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// faulty are upstreams of which a caller cannot be asked without a panic.
type faulty struct {
	*fakeUpstreams
	broken atomic.Bool
}

func (f *faulty) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	if f.broken.Load() {
		panic("a challenge that nobody thought of")
	}
	return f.fakeUpstreams.Login(ctx, up, s, user, password, repo)
}

// TestPanicOfAQuestion: a fault in what asks an upstream is an answer to who
// asked, and no more.
func TestPanicOfAQuestion(t *testing.T) {
	b, f := newPassBench(t)
	x := &faulty{fakeUpstreams: f}
	b.a.pass.ask = x
	for broken, want := range map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusOK} {
		x.broken.Store(broken)
		if got := b.get(t, "/v2/a.io/x/manifests/1", "alice", "wonder").StatusCode; got != want {
			t.Errorf("broken %t: %d, want %d", broken, got, want)
		}
		b.a.pass = newPassthrough(x)
	}
	var q asking
	err := q.once(t.Context(), "x", func(context.Context) error { panic("boom") })
	if err == nil || !strings.Contains(err.Error(), "panic: boom") || !strings.Contains(err.Error(), "asking_test.go") {
		t.Errorf("got %v, want what and where", err)
	}
}

// TestRunWaitsForQuestions: what is asked for somebody who left has an owner, who
// ends it.
func TestRunWaitsForQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Options{Upstreams: &fakeUpstreams{}}, Policy{})
		running, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- a.Run(running) }()

		var ended atomic.Bool
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			left <- a.pass.asking.once(ctx, "x", func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // of the bubble: it takes a while to give up
				ended.Store(true)
				return ctx.Err()
			})
		}()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) || ended.Load() {
			t.Errorf("who left got %v, ended %t", err, ended.Load())
		}
		began := time.Now()
		stop()
		if err := <-ran; err != nil || !ended.Load() {
			t.Errorf("Run returned %v, and what was asked has ended: %t", err, ended.Load())
		}
		if took := time.Since(began); took >= checkTime {
			t.Errorf("it was not broken off: %v", took)
		}
		if err := a.pass.asking.once(t.Context(), "y", func(context.Context) error { return nil }); !errors.Is(err, errStopping) {
			t.Errorf("asked after the end: %v", err)
		}
	})
}
