package access

import (
	"net/netip"
	"slices"

	"github.com/sociable/sociable/internal/oci"
)

// Rule says who may do what in some repositories. Each list holds names of
// users, names of groups behind an @, Anonymous or Authenticated.
type Rule struct {
	Repositories []string // patterns of oci.MatchAny; the rule decides where one of them matches
	Exclude      []string // patterns; and none of these

	Pull, Push, Delete, Administer []string
}

func (r *Rule) matches(repo oci.Repo) bool {
	return oci.MatchAny(r.Repositories, repo) && !oci.MatchAny(r.Exclude, repo)
}

func (r *Rule) who(action oci.Action) []string {
	switch action {
	case oci.ActionPull:
		return r.Pull
	case oci.ActionPush:
		return r.Push
	case oci.ActionDelete:
		return r.Delete
	case oci.ActionAdminister:
		return r.Administer
	default:
		return nil
	}
}

// Mode is what an upstream's images are where no rule speaks of them.
type Mode int

// What an upstream's images can be.
const (
	Closed      Mode = iota // pulled by whoever is logged in
	Open                    // pulled by everybody
	Passthrough             // pulled by whoever the upstream lets pull; rules don't count
)

// Policy is what is configured. It must not be changed after it was given away.
type Policy struct {
	Unguarded bool // everybody may do everything
	Rules     []Rule
	Groups    []Group
	Upstreams map[string]Mode // by name; one that is not listed is Closed
	// Addresses is where upstreams are, by name: what one said about callers does
	// not count at another address. One that is not listed stays where it was.
	Addresses map[string]string
	Pushed    map[string]bool // those of Passthrough that callers may push to, if the upstream lets them
	Passwords *Passwords      // nil: nobody logs in with a password
	Tokens    *TokenServer    // that clients are sent to; nil: our own service
	// CertificateName is the name of who comes with a certificate; "": its subject.
	CertificateName NameOf
	// Service is where our tokens are had from, such as https://host; "": the
	// host that the request was sent to.
	Service string
	// TrustedProxies are the networks of those whose X-Forwarded-For counts.
	TrustedProxies []netip.Prefix
}

// policy is a Policy made ready for use.
type policy struct {
	Policy
	groups membership
	passes bool // some upstream is Passthrough
}

func newPolicy(p Policy) *policy {
	out := &policy{Policy: p, groups: newMembership(p.Groups)}
	for _, m := range p.Upstreams {
		out.passes = out.passes || m == Passthrough
	}
	return out
}

// everything stands for the proxy as a whole: only patterns that match all
// repositories match it.
var everything = oci.Repo{}

// allows reports whether id may do action in repo.
func (p *policy) allows(id Identity, repo oci.Repo, action oci.Action) bool {
	return p.Unguarded || p.rules(id, repo, action)
}

// administers reports whether id may administer the proxy itself. That is never
// for everybody who happens to reach it.
func (p *policy) administers(id Identity) bool {
	return id.Via == ViaOperator || p.rules(id, everything, oci.ActionAdminister)
}

func (p *policy) rules(id Identity, repo oci.Repo, action oci.Action) bool {
	for i := range p.Rules {
		if p.Rules[i].matches(repo) {
			return p.groups.names(p.Rules[i].who(action), id)
		}
	}
	if action != oci.ActionPull {
		return false
	}
	switch p.Upstreams[repo.Upstream] {
	case Open:
		return true
	case Closed:
		return id.known()
	default:
		return false
	}
}

// asksWho reports whether it makes a difference, for anything, who asks.
func (p *policy) asksWho() bool {
	if p.Unguarded {
		return false
	}
	if p.Tokens != nil { // it knows who may have more than everybody
		return true
	}
	for _, m := range p.Upstreams {
		if m != Open {
			return true
		}
	}
	return slices.ContainsFunc(p.Rules, func(r Rule) bool {
		for _, who := range [][]string{r.Pull, r.Push, r.Delete} {
			if len(who) > 0 && !slices.Contains(who, Anonymous) {
				return true
			}
		}
		return len(r.Pull) == 0
	})
}
