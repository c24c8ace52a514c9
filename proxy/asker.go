package proxy

import (
	"errors"
	"slices"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// asker is by whose right an upstream is asked for a blob. Many may wait for one
// fill, but what the upstream says of one repository is nothing that those of
// another may be told, good or bad: a fill has a lead, who asks for all, and when
// the lead is refused, the next of those who wait takes its place.
type asker struct {
	up   *Upstream
	repo oci.Repo
}

func (a asker) same(b asker) bool {
	return a.repo == b.repo && a.up.Identity == b.up.Identity
}

// nobody is by whose right the indexer's readers read: they take what comes, and
// never have anything fetched.
func (a asker) nobody() bool { return a.up == nil }

// blames reports whether err is what the upstream said or did to who asked, so
// that another may be answered otherwise. The store's troubles, wrong bytes and
// the end of the work concern everybody.
func blames(err error) bool {
	if _, ok := errors.AsType[keepError](err); ok {
		return false
	}
	return err != nil && !errors.Is(err, errStopped) && !errors.Is(err, errShutdown) && !errors.Is(err, upstream.ErrDigest)
}

// asking is by whose right a fill's transfers ask, and who may have what they bring.
type asking struct {
	lead     asker   // as whom, and by whose right, transfers ask
	proven   bool    // its repository was found to have the blob before
	proved   []asker // for whom upstream answered
	faults   faults
	answered bool // upstream answered: the repository has the blob
	found    bool // bytes were here before any answer
}

// fault is a transfer that failed: a ranged one, or the pump's.
type fault struct {
	oci.Range
	whole bool // the pump's
	by    asker
	err   error
}

// maxFaults bounds what a fill remembers: one that is never idle may meet an upstream
// that fails for hours.
const maxFaults = 256

// faults are the last of a fill's, each by the number that it had from the first on.
// Who has not looked at one before it is forgotten asks upstream anew.
type faults struct {
	last  []fault
	first int // the number of last[0]
}

func (fs *faults) add(x fault) {
	if len(fs.last) == maxFaults {
		fs.last = slices.Delete(fs.last, 0, 1)
		fs.first++
	}
	fs.last = append(fs.last, x)
}

// end is the number that the next one gets.
func (fs *faults) end() int { return fs.first + len(fs.last) }

// asks says as whom, and by which repository's right, the upstream is asked.
func (f *fill) asks() asker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lead
}

// usable says whether a caller may have what f brings. What a repository is
// refused that may not have the blob at all is nobody else's answer: who was found
// to have it takes over a fill that has proven nothing yet. Who may have it takes over
// an unused one, too: its lead has left, who may have been another caller, or of before
// a reload.
func (f *fill) usable(who asker, entitled, unused bool) (*fill, error) {
	f.mu.Lock()
	err := f.err
	switch {
	case err != nil:
	case !entitled && !f.mayLocked(who):
		err = errUnproven
	case unused, entitled && !f.proven && !f.answered:
		f.lead, f.proven = who, true
		f.changedLocked()
	}
	f.mu.Unlock()
	if err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// mayLocked reports whether who, whose right no row says, may wait for this fill:
// once it was answered for who's repository, or while who leads and the first
// answer is still to come.
func (f *fill) mayLocked(who asker) bool {
	return f.provedLocked(who) || f.lead.same(who) && !f.answered && !f.found
}

// answeredFor notes that upstream answered for who's repository, which gives it
// the right to the blob.
func (f *fill) answeredFor(who asker) {
	f.p.grant(who.up, who.repo, f.d)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.provedLocked(who) {
		f.proved = append(f.proved, who)
	}
}

// provedFor reports whether upstream answered for who's repository.
func (f *fill) provedFor(who asker) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.provedLocked(who)
}

func (f *fill) provedLocked(who asker) bool { return slices.ContainsFunc(f.proved, who.same) }

// faultLocked looks at the faults of transfers since the last time, and gives the
// one that ends this reader: what was told by its own right. One of another's it
// answers by taking the lead.
func (t *reader) faultLocked() error {
	f := t.f
	for t.seen = max(t.seen, f.faults.first); t.seen < f.faults.end(); t.seen++ {
		x := f.faults.last[t.seen-f.faults.first]
		switch {
		case x.whole != t.whole, !t.whole && (t.pos < x.Off || x.End <= t.pos):
		case t.who.nobody():
		case !blames(x.err), x.by.same(t.who), t.troubles(x):
			return x.err
		case f.lead.same(x.by):
			f.lead = t.who
		}
	}
	return nil
}

// troubles reports whether a fault of another's is the upstream's trouble with
// everybody, who then need not ask one after another: where it is not to be asked
// for now, and where it failed a second one as well.
func (t *reader) troubles(x fault) bool {
	if x.by.up.Identity != t.who.up.Identity || !upstream.IsUnavailable(x.err) {
		return false
	}
	if _, held := errors.AsType[*upstream.HeldError](x.err); held || upstream.IsThrottled(x.err) || errors.Is(x.err, upstream.ErrOffline) {
		return true
	}
	if t.failed == nil {
		t.failed = &x.by
	}
	return !t.failed.same(x.by)
}
