package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sociable/sociable/storage"
)

// Identity is where, and as whom, an upstream is asked. What its repositories
// were found to have counts for whoever we let in; so what only credentials
// opened must not count when there are none any more, nor at another registry.
type Identity struct {
	URL string
	As  As
}

// As is as whom an upstream is asked.
type As string

// As whom an upstream is asked.
const (
	AsAnyone  As = "anyone"  // without credentials, for everybody
	AsUs      As = "us"      // with credentials, or for those alone who may
	AsCallers As = "callers" // with those of each caller
)

// String is Identity as it is kept; parseIdentity reads it.
func (i Identity) String() string { return string(i.As) + " " + i.URL }

func parseIdentity(s string) Identity {
	as, url, _ := strings.Cut(s, " ")
	return Identity{URL: url, As: As(as)}
}

// outlived reports whether what was learnt under i counts no more under now.
func (i Identity) outlived(now Identity) bool {
	opened := i.As == AsUs && now.As == AsAnyone || i.As == AsCallers && now.As != AsCallers
	return opened || i.URL != now.URL
}

// errSuperseded is that of what came too late.
var errSuperseded = errors.New("the upstream is asked otherwise since a reload")

// superseded reports that up is one of before a reload, under which more could be
// read than by what is in force.
func (p *Proxy) superseded(up *Upstream) bool {
	now := p.routes().byName[up.Name]
	return now != nil && now != up && up.Identity.outlived(now.Identity)
}

// voided are those of ups of which what is known was learnt under an identity that
// they have outlived. From then on it does not count, until settle forgot it.
func (p *Proxy) voided(ctx context.Context, ups []*Upstream) (changed []*Upstream) {
	err := p.store.View(ctx, func(tx storage.Tx) error {
		changed = nil
		for _, u := range ups {
			if u.Identity == (Identity{}) {
				continue
			}
			was, err := tx.Learnt(u.Name)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return fmt.Errorf("read as whom %s was asked: %w", u.Name, err)
			}
			if err != nil || was != u.Identity.String() {
				changed = append(changed, u)
			}
			outlived := err == nil && parseIdentity(was).outlived(u.Identity)
			// Offline, nothing can be found out anew: another address is no reason then.
			if u.Offline && parseIdentity(was).As == u.Identity.As {
				outlived = false
			}
			p.rights.void(u.Name, outlived)
		}
		return nil
	})
	if err != nil {
		p.log.Error("not known as whom upstreams were asked: what their repositories have is asked for again", "err", err)
		for _, u := range ups {
			p.rights.void(u.Name, u.Identity != (Identity{}))
		}
		return nil
	}
	return changed
}

// settle forgets what does not count any more of what was learnt about changed,
// and notes as whom they are asked now. Where an upstream is offline nothing is
// forgotten, because nothing could be learnt anew: it counts again once there are
// credentials again.
func (p *Proxy) settle(ctx context.Context, changed []*Upstream) {
	for _, u := range changed {
		void := p.rights.isVoid(u.Name)
		if void {
			p.filings.forget(u.Name)
		}
		if u.Offline && void {
			p.log.Warn("what was pulled with credentials is not given to everybody, and cannot be asked for: the upstream is offline", "upstream", u.Name)
			continue
		}
		if u.Offline { // its address may be corrected before it is asked
			if known := p.learnt(ctx, u); known {
				continue
			}
		}
		err := p.store.Update(ctx, func(tx storage.Tx) error {
			if void {
				if err := tx.ForgetRights(u.Name); err != nil {
					return err
				}
			}
			return tx.PutLearnt(u.Name, u.Identity.String())
		})
		if err != nil {
			p.log.Error("not noted as whom the upstream is asked", "upstream", u.Name, "err", err)
			continue
		}
		if void {
			p.log.Info("the upstream is asked otherwise than before: what its repositories have is asked for again", "upstream", u.Name)
			p.rights.void(u.Name, false)
		}
	}
}

func (p *Proxy) learnt(ctx context.Context, u *Upstream) bool {
	err := p.store.View(ctx, func(tx storage.Tx) error {
		_, err := tx.Learnt(u.Name)
		return err
	})
	return err == nil
}

// void has nothing count that is known of upstream's repositories, or counts it
// again. What is not written yet is dropped.
func (r *rights) void(upstream string, void bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !void {
		delete(r.voids, upstream)
		return
	}
	r.voids[upstream] = struct{}{}
	for _, m := range []map[right]struct{}{r.pending, r.written} {
		for x := range m {
			if x.repo.Upstream == upstream {
				delete(m, x)
			}
		}
	}
}

func (r *rights) isVoid(upstream string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, void := r.voids[upstream]
	return void
}
