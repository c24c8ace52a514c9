package proxy

import (
	"fmt"
	"net/http"

	"github.com/sociable/sociable/internal/oci"
)

// SetUpstreams replaces the upstreams and the default one, and calls also at the
// same moment, for what must change together with them: nobody is let in by the
// rules of before to an upstream of after, nor the other way round. Requests that
// were let in, and transfers, go on with what was before. An error is about names
// that clash or are missing; then nothing changes.
func (p *Proxy) SetUpstreams(ups []*Upstream, def string, also func()) error {
	t, err := newRoutes(ups, def)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, u := range ups {
		p.metrics.mismatches.WithLabelValues(u.Name) // so that a rate exists from the start
	}
	p.swap.Lock()
	defer p.swap.Unlock()
	p.epoch.Add(1) // odd: at work
	also()
	p.routing.Store(t)
	changed := p.voided(p.life, ups) // nobody new is let in before that, and nothing that is known from before comes after
	p.epoch.Add(1)
	p.settle(p.life, changed)
	return nil
}

// routes are those in force.
func (p *Proxy) routes() *routes { return p.routing.Load() }

// admit routes a request and asks whether its caller may do action there, both
// by what is in force at one moment. No lock is held while that is asked.
func (p *Proxy) admit(r *http.Request, name string, action oci.Action) (up *Upstream, repo oci.Repo, err error) {
	p.settled(func(t *routes) {
		if up, repo, err = t.resolve(r, name); err != nil {
			return
		}
		note(r).repo, note(r).upstream = repo.String(), up.Name
		if p.opt.Access != nil {
			err = p.opt.Access.May(r, repo, action)
		}
	})
	return up, repo, err
}

// seesNamed is admit for another repository than the request's own, which the
// request names: what is copied from, say. Nothing is logged about it.
func (p *Proxy) seesNamed(r *http.Request, name string) (repo oci.Repo, ok bool) {
	if oci.CheckName(name) != nil {
		return oci.Repo{}, false
	}
	p.settled(func(t *routes) {
		var err error
		_, repo, err = t.resolve(r, name)
		ok = err == nil && p.may(r, repo)
	})
	return repo, ok
}

// sees reports whether the caller of r may pull from repo, which is known here.
func (p *Proxy) sees(r *http.Request, repo oci.Repo) (ok bool) {
	p.settled(func(t *routes) {
		up := t.byName[repo.Upstream]
		ok = up != nil && up.Name == repo.Upstream && p.may(r, repo)
	})
	return ok
}

// lists reports whether the caller of r finds repo, which is known here, in a list.
func (p *Proxy) lists(r *http.Request, repo oci.Repo) (ok bool) {
	l, is := p.opt.Access.(Lister)
	if !is {
		return p.sees(r, repo)
	}
	p.settled(func(t *routes) {
		up := t.byName[repo.Upstream]
		ok = up != nil && up.Name == repo.Upstream && l.Lists(r, repo)
	})
	return ok
}

func (p *Proxy) may(r *http.Request, repo oci.Repo) bool {
	switch a := p.opt.Access.(type) {
	case nil:
		return true
	case Door:
		return a.Sees(r, repo)
	default:
		return a.May(r, repo, oci.ActionPull) == nil
	}
}

// settled calls decide with the routes in force, and again when a reload came
// meanwhile, so that what it decides is by one configuration.
func (p *Proxy) settled(decide func(*routes)) {
	for {
		began := p.epoch.Load()
		if began%2 == 1 {
			p.swap.Lock()   // it takes a moment
			p.swap.Unlock() //nolint:staticcheck // nothing is done under it but to wait
			continue
		}
		if decide(p.routes()); p.epoch.Load() == began {
			return
		}
	}
}
