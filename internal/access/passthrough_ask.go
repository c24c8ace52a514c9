package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// errRefusedThere is the refusal of one repository to somebody whose credentials
// the upstream takes.
var errRefusedThere = fmt.Errorf("%w there", ErrRefused)

// refusedThere reports that upstream has just refused repo, and no more, to login.
func (p *passthrough) refusedThere(login loginKey, repo oci.Repo, now time.Time) bool {
	w, ok := p.words.Get(wordOf{login, repo})
	return ok && repo.Name != "" && w.there && now.Sub(w.when) < mayNotTTL
}

// login makes sure that upstream can be asked about repo with cred.
func (p *passthrough) login(ctx context.Context, login loginKey, cred credentials, repo oci.Repo, now time.Time) error {
	if repo.Name != "" && p.ready(login, repo, now) {
		return nil
	}
	if p.refuses(login, repo.Upstream, now) {
		return ErrRefused
	}
	if p.refusedThere(login, repo, now) {
		return errRefusedThere
	}
	if err := p.awayFor(login, repo.Upstream, awayRetry, now); p.graced(login, repo, err, now) {
		return err
	}
	return p.asking.once(ctx, "login "+login.String()+repo.String(), func(ctx context.Context) error {
		of := sessionOf{login, repo.Upstream}
		err := p.tryLogin(ctx, login, cred, repo)
		// Who was let in for one repository does not guess: some token services refuse
		// another to it in the way in which they refuse a wrong password.
		proven, _ := p.proven.Peek(of)
		if errors.Is(err, ErrRefused) && repo.Name != "" && (proven || !errors.Is(err, ErrRefusedLogin)) {
			err = p.refusedWhat(ctx, login, cred, repo.Upstream)
		}
		switch {
		case err == nil:
			if repo.Name != "" || p.believes(login, repo.Upstream) {
				p.proven.Add(of, true)
			}
			if w, ok := p.words.Peek(wordOf{login, repo}); ok && !w.may {
				p.words.Remove(wordOf{login, repo})
			}
			p.aways.Remove(of)
		case errors.Is(err, errRefusedThere):
			p.words.Add(wordOf{login, repo}, word{when: now, there: true})
			p.aways.Remove(of)
		case errors.Is(err, ErrRefused):
			p.forget(login, repo.Upstream)
			p.words.Add(wordOf{login, oci.Repo{Upstream: repo.Upstream}}, word{when: now})
			p.aways.Remove(of)
		case !errors.Is(err, ErrUnknown):
			p.aways.Add(of, away{err, now})
		}
		return err
	})
}

// forget drops all that upstream said about login: it refuses these credentials,
// so that an outage after it must not let them in by what it said before.
func (p *passthrough) forget(login loginKey, upstream string) {
	for _, k := range p.words.Keys() {
		if k.login == login && k.repo.Upstream == upstream {
			p.words.Remove(k)
		}
	}
}

func (p *passthrough) tryLogin(ctx context.Context, login loginKey, cred credentials, repo oci.Repo) error {
	s, err := p.ask.Login(ctx, repo.Upstream, p.session(login, repo.Upstream), cred.user, cred.password, repo.Name)
	switch {
	case err == nil:
		p.sessions.Add(sessionOf{login, repo.Upstream}, s)
	case repo.Name == "" && errors.Is(err, ErrRefused):
		p.tells.Store(repo.Upstream, nil)
	}
	return err
}

// refusedWhat finds out what a refusal means: some token services refuse as a
// whole whoever may have nothing of the repository that is asked for.
func (p *passthrough) refusedWhat(ctx context.Context, login loginKey, cred credentials, upstream string) error {
	if err := p.tryLogin(ctx, login, cred, oci.Repo{Upstream: upstream}); err != nil {
		return err
	}
	return errRefusedThere
}

// may asks upstream whether login may pull from repo, or remembers what it said.
func (p *passthrough) may(ctx context.Context, login loginKey, repo oci.Repo, kind, ref string, now time.Time) error {
	key := wordOf{login, repo}
	w, known := p.words.Get(key)
	if known && w.may && now.Sub(w.when) < mayTTL {
		return nil
	}
	if known && !w.may && now.Sub(w.when) < mayNotTTL {
		return ErrRefused
	}
	err := p.asking.once(ctx, "may "+login.String()+repo.String()+" "+kind+" "+ref, func(ctx context.Context) error {
		err := p.ask.Check(ctx, p.session(login, repo.Upstream), repo, kind, ref)
		switch {
		case err == nil:
			p.words.Add(key, word{may: true, when: now})
		case errors.Is(err, ErrRefused):
			p.words.Add(key, word{when: now})
		}
		return err
	})
	if p.graced(login, repo, err, now) {
		return nil
	}
	return err
}
