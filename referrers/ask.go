package referrers

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// How long an upstream's answer is good for. A failure is remembered just long
// enough that a crowd of callers does not wait for it one after the other.
const (
	answerTTL  = 10 * time.Second
	failureTTL = time.Second
)

// What is remembered at most, in answers and in bytes of all of them.
const (
	maxAnswers     = 4096
	maxAnswerBytes = 16 << 20
)

var errCut = errors.New("asking the upstream was cut short")

// asker asks the upstream once for all who want to know the same at the same
// time, and remembers the answer for a moment.
type asker struct {
	upstream Upstream
	timeout  time.Duration

	mu      sync.Mutex
	answers map[question]*list.Element // of *answer
	byAge   *list.List                 // newest first
	bytes   int                        // about, of all answers
}

type question struct {
	repo    oci.Repo
	subject digest.Digest
}

// answer is on its way until done is closed; its other fields are set before.
type answer struct {
	q       question
	done    chan struct{}
	list    []v1.Descriptor
	err     error
	bytes   int
	expires time.Time // zero while on its way; guarded by asker.mu
}

func newAsker(u Upstream, timeout time.Duration) *asker {
	return &asker{upstream: u, timeout: timeout, answers: map[question]*list.Element{}, byAge: list.New()}
}

// ask gives the upstream's list. asked reports whether this call did the
// asking, rather than join another or find its answer. Joining takes no longer
// than asking: the one who asks is held to the timeout.
func (a *asker) ask(ctx context.Context, repo oci.Repo, subject digest.Digest) (ds []v1.Descriptor, asked bool, err error) {
	q := question{repo, subject}
	ans, mine := a.join(q)
	if mine {
		// The caller's leaving must not become everybody's failure.
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		func() {
			defer a.settle(ans) // whatever happens: others wait for it
			ans.err = errCut
			ans.list, ans.err = a.upstream(actx, repo, subject)
		}()
		return ans.list, true, ans.err
	}
	select {
	case <-ans.done:
		return ans.list, false, ans.err
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

// join finds the answer to q, or makes one that the caller is to get.
func (a *asker) join(q question) (ans *answer, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.answers[q]; ok {
		ans = e.Value.(*answer)
		if ans.expires.IsZero() || time.Now().Before(ans.expires) {
			return ans, false
		}
		a.drop(e)
	}
	ans = &answer{q: q, done: make(chan struct{})}
	a.answers[q] = a.byAge.PushFront(ans)
	return ans, true
}

func (a *asker) settle(ans *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ttl := answerTTL
	if ans.err != nil {
		ttl = failureTTL
	}
	ans.expires = time.Now().Add(ttl)
	ans.bytes = weight(ans.list)
	a.bytes += ans.bytes
	close(ans.done)
	for e := a.byAge.Back(); e != nil && (a.byAge.Len() > maxAnswers || a.bytes > maxAnswerBytes); {
		older := e.Prev()
		if !e.Value.(*answer).expires.IsZero() {
			a.drop(e)
		}
		e = older
	}
}

// drop forgets a settled answer; who holds it may go on reading it.
func (a *asker) drop(e *list.Element) {
	ans := e.Value.(*answer)
	a.byAge.Remove(e)
	delete(a.answers, ans.q)
	a.bytes -= ans.bytes
}

// weight is about what ds take in memory.
func weight(ds []v1.Descriptor) int {
	n := 256 // the answer itself
	for i := range ds {
		n += 256 + len(ds[i].MediaType) + len(ds[i].ArtifactType) + len(ds[i].Digest)
		for k, v := range ds[i].Annotations {
			n += 32 + len(k) + len(v)
		}
	}
	return n
}
