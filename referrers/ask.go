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
	"github.com/sociable/sociable/internal/upstream"
)

const (
	// failureTTL remembers a failure just long enough that a crowd of callers
	// does not wait for it one after the other.
	failureTTL = time.Second
	// holdOff is how long an upstream that gave no answer is not asked about
	// anything: the next callers are spared the wait. Clients that are told to ask
	// again do so for some nine seconds, and are to find one that is back.
	holdOff = 3 * time.Second
)

// What is remembered in memory at most, in answers and in bytes of all of them.
const (
	maxAnswers     = 4096
	maxAnswerBytes = 16 << 20
)

var (
	errCut    = errors.New("asking the upstream was cut short")
	errSilent = errors.New("the upstream did not answer a moment ago")
)

// asker asks the upstream once for all who want to know the same at the same
// time, and remembers the answer: in memory, and in rows, which a restart and an
// upstream that is away do not take along.
type asker struct {
	upstream Upstream
	timeout  time.Duration
	ttl      time.Duration // how long an answer is good for
	rows     answerRows

	mu      sync.Mutex
	answers map[question]*list.Element // of *answer
	byAge   *list.List                 // newest first
	bytes   int                        // about, of all answers
	silent  map[string]time.Time       // upstreams, and until when they are not asked
}

type question struct {
	repo    oci.Repo
	subject digest.Digest
}

// answer is on its way until done is closed; its other fields are set before.
type answer struct {
	q       question
	done    chan struct{}
	theirs  theirs
	asked   bool  // the upstream was asked for it
	err     error // why it is not the upstream's own of now; theirs is what it last said then
	bytes   int
	good    time.Duration // how long it is good for
	none    bool          // an earlier answer was that there are none: no row has that
	expires time.Time     // zero while on its way; guarded by asker.mu
	// disowned says that the list has changed since it was asked for, so that it
	// is not remembered; guarded by asker.mu.
	disowned bool
}

// theirs is what an upstream lists: the first SOCI v1 index, where there is
// one, and the rest by digest.
type theirs struct {
	soci  *v1.Descriptor
	rest  []v1.Descriptor
	known bool // the upstream said so, now or the last time that it could be asked
}

func (t *theirs) empty() bool { return t.soci == nil && len(t.rest) == 0 }

func newAsker(u Upstream, timeout, ttl time.Duration, store Store) *asker {
	return &asker{
		upstream: u, timeout: timeout, ttl: ttl, rows: answerRows{store},
		answers: map[question]*list.Element{}, byAge: list.New(), silent: map[string]time.Time{},
	}
}

// ask gives the upstream's list. An error says why it is not of now: with it
// comes what the upstream last said, if that is known. asked reports whether
// this call did the asking, rather than join another or find its answer.
// Joining takes no longer than asking: the one who asks is held to the timeout.
func (a *asker) ask(ctx context.Context, repo oci.Repo, subject digest.Digest) (ts theirs, asked bool, err error) {
	q := question{repo, subject}
	ans, mine := a.join(q)
	if mine {
		ctx = context.WithoutCancel(ctx) // the caller's leaving must not become everybody's failure
		var keep func(context.Context) error
		func() {
			defer a.settle(ans) // whatever happens: others wait for it
			ans.err, ans.good = errCut, failureTTL
			keep = a.find(ctx, ans)
		}()
		if keep != nil {
			err := a.keep(ctx, ans, keep)
			if err != nil && ans.err == nil {
				return ans.theirs, ans.asked, &keepError{err}
			}
		}
		return ans.theirs, ans.asked, ans.err
	}
	select {
	case <-ans.done:
		return ans.theirs, false, ans.err
	case <-ctx.Done():
		return theirs{}, false, context.Cause(ctx)
	}
}

// keepError says that a list is the upstream's of now, but could not be kept.
type keepError struct{ err error }

func (e *keepError) Error() string { return "keep the upstream's referrers: " + e.err.Error() }
func (e *keepError) Unwrap() error { return e.err }

// find fills ans, from a row that is young enough or from the upstream. keep,
// if not nil, files what was new.
func (a *asker) find(ctx context.Context, ans *answer) (keep func(context.Context) error) {
	row, age, err := a.rows.get(ctx, ans.q)
	if err != nil {
		ans.err = err
		return nil
	}
	ans.theirs = sorted(row.Referrers)
	ans.theirs.known = age != never || ans.none
	if age < a.ttl {
		ans.err, ans.good = nil, a.ttl-age
		return nil
	}
	if a.isSilent(ans.q.repo.Upstream) {
		ans.err = errSilent
		return nil
	}
	actx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	ans.asked = true
	list, err := a.upstream(actx, ans.q.repo, ans.q.subject)
	if err != nil {
		if unanswered(err) {
			a.setSilent(ans.q.repo.Upstream)
		}
		ans.err = err
		return nil
	}
	list = clean(list)
	ans.theirs, ans.err, ans.good = sorted(list), nil, a.ttl
	ans.theirs.known = true
	return a.rows.keep(ans.q, row, age, list)
}

// unanswered reports that an upstream may say another time what it does not say
// now. One that is offline by configuration will not, nor one that refuses, or whose
// answers make no sense.
func unanswered(err error) bool {
	var protocol *upstream.ProtocolError
	var policy *upstream.PolicyError
	if errors.Is(err, upstream.ErrOffline) || errors.As(err, &protocol) || errors.As(err, &policy) {
		return false
	}
	return errors.Is(err, errSilent) || errors.Is(err, errCut) || upstream.IsUnavailable(err)
}

func (a *asker) isSilent(up string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.silent[up])
}

func (a *asker) setSilent(up string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.silent[up] = time.Now().Add(holdOff)
}

// join finds the answer to q, or makes one that the caller is to get.
func (a *asker) join(q question) (ans *answer, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	none := false
	if e, ok := a.answers[q]; ok {
		ans = e.Value.(*answer)
		if ans.expires.IsZero() || time.Now().Before(ans.expires) {
			return ans, false
		}
		none = ans.theirs.known && ans.theirs.empty()
		a.drop(e)
	}
	ans = &answer{q: q, none: none, done: make(chan struct{})}
	a.answers[q] = a.byAge.PushFront(ans)
	return ans, true
}

func (a *asker) settle(ans *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ans.expires = time.Now().Add(ans.good)
	defer close(ans.done)
	if ans.disowned {
		return
	}
	ans.bytes = weight(ans.theirs.rest)
	a.bytes += ans.bytes
	for e := a.byAge.Back(); e != nil && (a.byAge.Len() > maxAnswers || a.bytes > maxAnswerBytes); {
		older := e.Prev()
		if !e.Value.(*answer).expires.IsZero() {
			a.drop(e)
		}
		e = older
	}
}

// drop forgets an answer; who holds it may go on reading it, or waiting for it.
func (a *asker) drop(e *list.Element) {
	ans := e.Value.(*answer)
	a.byAge.Remove(e)
	delete(a.answers, ans.q)
	a.bytes -= ans.bytes
}

// forget makes the next caller ask anew, whatever the upstream said last. Who
// is waiting for its answer still gets it.
func (a *asker) forget(ctx context.Context, q question) error {
	a.mu.Lock()
	if e, ok := a.answers[q]; ok {
		e.Value.(*answer).disowned = true
		a.drop(e)
	}
	a.mu.Unlock()
	return a.rows.drop(ctx, q)
}

// keep files an answer with file, unless it was overtaken; looking afterwards
// leaves no moment in which an outdated list comes to stay.
func (a *asker) keep(ctx context.Context, ans *answer, file func(context.Context) error) error {
	if err := file(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	disowned := ans.disowned
	a.mu.Unlock()
	if disowned {
		return a.rows.drop(ctx, ans.q)
	}
	return nil
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
