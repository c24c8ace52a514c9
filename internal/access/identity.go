package access

import "slices"

// How an Identity was proven.
const (
	ViaNobody      = "anonymous"
	ViaPassword    = "password"
	ViaCertificate = "certificate"
	ViaToken       = "token"    // of an external token server
	ViaUpstream    = "upstream" // by credentials that are an upstream's
	ViaOperator    = "operator" // by a token that the owner of the data folder made
)

// Identity is who asks, as far as that was proven.
type Identity struct {
	Name   string   // "": not known
	Groups []string // that the proof itself names
	Via    string
}

// known reports an identity that rules can name. Credentials of an upstream
// prove nothing to us.
func (id Identity) known() bool { return id.Name != "" && id.Via != ViaUpstream }

// String is the identity as logs have it.
func (id Identity) String() string {
	if id.Name == "" {
		return "anonymous"
	}
	return id.Name
}

// Words that stand for many callers in a Rule.
const (
	Anonymous     = "anonymous"     // everybody, logged in or not
	Authenticated = "authenticated" // everybody who is logged in
)

// Group is a named set of users.
type Group struct {
	Name  string
	Users []string
}

// membership tells the groups of each user.
type membership map[string][]string

func newMembership(groups []Group) membership {
	m := membership{}
	for _, g := range groups {
		for _, u := range g.Users {
			m[u] = append(m[u], g.Name)
		}
	}
	return m
}

// names reports whether who, a list out of a Rule, includes id.
func (m membership) names(who []string, id Identity) bool {
	for _, w := range who {
		switch {
		case w == Anonymous:
			return true
		case !id.known():
		case w == Authenticated:
			return true
		case len(w) > 1 && w[0] == '@':
			if slices.Contains(id.Groups, w[1:]) || slices.Contains(m[id.Name], w[1:]) {
				return true
			}
		case w == id.Name:
			return true
		}
	}
	return false
}
