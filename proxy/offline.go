package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// offlineError says what is missing here and what to do about it. To a client it
// is absent, and asking again won't help; status 0 is the code's own.
func offlineError(what string, code errcode.ErrorCode, status int, err error) error {
	return &oci.Error{Code: code, Status: status, Err: err, Message: what +
		" is not in this store, and its upstream is offline by configuration: bring it here from where there is a network, or take offline off"}
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// listTags asks the upstream, or where that is offline lists the tags that are
// known here; those of a hosted repository are nowhere else.
func (p *Proxy) listTags(ctx context.Context, up *Upstream, repo oci.Repo, n int, last string) (tags []string, more bool, err error) {
	if !up.Offline && !up.Hosted {
		return up.Registry.Tags(ctx, repo.Name, n, last)
	}
	err = p.store.View(ctx, func(tx storage.Tx) error {
		tags, more = nil, false
		return tx.Tags(repo, last, func(row storage.TagRow) error {
			if n > 0 && len(tags) == n {
				more = true
				return errEnough
			}
			tags = append(tags, row.Tag)
			return nil
		})
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return nil, false, err
	case tags == nil && last == "":
		return nil, false, storage.ErrNotFound
	}
	return tags, more, nil
}

const (
	// maxMissing bounds the rows of what was asked for in vain: the names come
	// from clients. Those that were asked for longest ago make room.
	maxMissing = 10_000
	// missingEvery is how long they are gathered before they are written.
	missingEvery = time.Second
	// headsWait is how long what only HEADs asked for is held back: a push looks
	// what is there, too, and tells that it is one a little later.
	headsWait = 3 * time.Second
)

// missing holds what clients asked for in vain and is not yet a row.
type missing struct {
	mu      sync.Mutex
	pending map[missed]*wanted
	wake    chan struct{}
}

// wanted is how often something was asked for: a pull asks by HEAD and GET, or by
// one of them.
type wanted struct {
	row         storage.MissingRow
	gets, heads int64
}

type missed struct {
	repo      oci.Repo
	reference string
}

func newMissing() *missing {
	return &missing{pending: map[missed]*wanted{}, wake: make(chan struct{}, 1)}
}

// missed remembers what the request was for. Of a request for something else
// than a manifest or a blob there is nothing that could be brought. Who asks by
// HEAD for a blob is about to push it.
func (p *Proxy) missed(method string, a *access) {
	repo, err := oci.ParseRepo(a.repo)
	row := storage.MissingRow{Repo: repo, Reference: a.reference, First: p.now()}
	if row.Reference == "" {
		row.Reference, row.Blob = a.digest, a.route == "blob"
	}
	if err != nil || row.Reference == "" || a.route == "referrers" || row.Blob && method == http.MethodHead {
		return
	}
	p.missing.mu.Lock()
	defer p.missing.mu.Unlock()
	key := missed{repo, row.Reference}
	x := p.missing.pending[key]
	if x == nil {
		if len(p.missing.pending) >= maxMissing {
			return
		}
		x = &wanted{row: row}
		p.missing.pending[key] = x
	}
	if method == http.MethodHead {
		x.heads++
	} else {
		x.gets++
	}
	x.row.Last = p.now()
	p.missing.again()
}

// again has what is pending be looked at.
func (m *missing) again() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// pushed forgets what HEADs asked for in a repository just now: it was a push that
// looked what is there already.
func (m *missing) pushed(repo oci.Repo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, x := range m.pending {
		if key.repo == repo && x.gets == 0 {
			delete(m.pending, key)
		}
	}
}

// take gives what is to be written; all of it where the process ends.
func (m *missing) take(now time.Time, all bool) (batch []storage.MissingRow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, x := range m.pending {
		if !all && x.gets == 0 && now.Sub(x.row.First) < headsWait {
			m.again()
			continue
		}
		x.row.Asked = max(x.gets, x.heads)
		batch = append(batch, x.row)
		delete(m.pending, key)
	}
	return batch
}

func (p *Proxy) writeMissing(ctx context.Context) {
	for {
		select {
		case <-p.missing.wake:
		case <-ctx.Done():
			p.flushMissing(context.WithoutCancel(ctx), true) // short, and its end is waited for
			return
		}
		select { // gather: one transaction for a crowd
		case <-time.After(missingEvery):
		case <-ctx.Done():
		}
		p.flushMissing(context.WithoutCancel(ctx), false)
	}
}

func (p *Proxy) flushMissing(ctx context.Context, all bool) {
	batch := p.missing.take(p.now(), all)
	if len(batch) == 0 {
		return
	}
	err := p.store.Update(ctx, func(tx storage.Tx) error {
		for _, row := range batch {
			old, err := tx.Missing(row.Repo, row.Reference)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			if err == nil {
				row.Asked, row.First = row.Asked+old.Asked, old.First
			}
			if err := tx.PutMissing(row); err != nil {
				return err
			}
		}
		return thinMissing(tx)
	})
	if err != nil { // a list for people: what it lost is asked for again
		p.log.ErrorContext(ctx, "what clients asked for in vain not written", "err", err)
	}
}

// thinMissing deletes the rows beyond maxMissing.
func thinMissing(tx storage.Tx) error {
	var all []storage.MissingRow
	err := tx.AllMissing(func(row storage.MissingRow) error {
		all = append(all, row)
		return nil
	})
	if err != nil || len(all) <= maxMissing {
		return err
	}
	slices.SortFunc(all, func(a, b storage.MissingRow) int { return a.Last.Compare(b.Last) })
	for _, row := range all[:len(all)-maxMissing] {
		if err := tx.DeleteMissing(row.Repo, row.Reference); err != nil {
			return err
		}
	}
	return nil
}
