package proxy

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// routes finds the upstream and repository that a request means. The world is
// closed: what is not configured is NAME_UNKNOWN and never dialled.
type routes struct {
	byName map[string]*Upstream // names and aliases
	byHost map[string]*Upstream
	def    *Upstream // nil: none
}

func newRoutes(ups []*Upstream, def string) (*routes, error) {
	t := &routes{byName: map[string]*Upstream{}, byHost: map[string]*Upstream{}}
	for _, u := range ups {
		for _, n := range append([]string{u.Name}, u.Aliases...) {
			if other := t.byName[n]; other != nil {
				return nil, fmt.Errorf("upstreams %s and %s are both named %q", other.Name, u.Name, n)
			}
			t.byName[n] = u
		}
		for _, h := range u.Hosts {
			h = strings.ToLower(h)
			if other := t.byHost[h]; other != nil {
				return nil, fmt.Errorf("host %q is bound to both %s and %s", h, other.Name, u.Name)
			}
			t.byHost[h] = u
		}
	}
	if def != "" {
		if t.def = t.byName[def]; t.def == nil {
			return nil, fmt.Errorf("default upstream %q is not configured", def)
		}
	}
	return t, nil
}

// resolve applies the routing order; name is the repository name as it stands
// in the path, and was checked against the grammar.
//
//	ns= names an upstream > first segment names one > other ns=: unknown
//	> virtual host > first segment names a hosted namespace > default upstream
//
// An unknown ns= never falls through to the default upstream: an internal name
// would be looked up at a public registry, where anybody may have taken it.
func (t *routes) resolve(r *http.Request, name string) (*Upstream, oci.Repo, error) {
	return t.find(r.Host, r.URL.Query().Get("ns"), name)
}

func (t *routes) find(host, ns, name string) (*Upstream, oci.Repo, error) {
	first, rest, _ := strings.Cut(name, "/")
	if u := t.byName[ns]; u != nil && ns != "" {
		if t.byName[first] == u { // containerd adds ns= under override_path, too
			name = rest
		}
		return t.within(u, name)
	}
	if u := t.byName[first]; u != nil && (!u.Hosted || t.bound(host) == nil) {
		return t.within(u, rest)
	}
	if ns != "" {
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown,
			"no upstream %q is configured here (ns=%s)", ns, ns)
	}
	if u := t.bound(host); u != nil {
		return t.within(u, name)
	}
	if strings.ContainsAny(first, ".:") && rest != "" {
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown,
			"no upstream %q is configured here", first)
	}
	if t.def == nil {
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown,
			"%q names no upstream, and there is no default upstream", first)
	}
	return t.within(t.def, name)
}

// Resolve gives the repository that a request for name would mean at host, by
// what the name itself says; host "" is none of the virtual ones.
func (p *Proxy) Resolve(host, name string) (oci.Repo, error) {
	_, repo, err := p.routes().find(host, "", name)
	return repo, err
}

// bound is the upstream of a virtual host, nil where there is none.
func (t *routes) bound(host string) *Upstream {
	host = strings.ToLower(host)
	if u := t.byHost[host]; u != nil {
		return u
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		return t.byHost[h]
	}
	return nil
}

// namespaces are the hosted ones, by name.
func (t *routes) namespaces() []*Upstream {
	var ups []*Upstream
	for name, u := range t.byName {
		if u.Hosted && name == u.Name {
			ups = append(ups, u)
		}
	}
	slices.SortFunc(ups, func(a, b *Upstream) int { return strings.Compare(a.Name, b.Name) })
	return ups
}

// asksFor reports whether repo's upstream is asked in its callers' names.
func (t *routes) asksFor(repo oci.Repo) bool {
	u := t.byName[repo.Upstream]
	return u != nil && u.AsCaller != nil
}

// hosted reports whether the upstream of that name is a hosted namespace.
func (t *routes) hosted(name string) bool {
	u := t.byName[name]
	return u != nil && u.Hosted
}

func (t *routes) within(u *Upstream, name string) (*Upstream, oci.Repo, error) {
	if name == "" && u.Hosted {
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown,
			"%s is a namespace of this registry: name a repository in it, as in %s/REPOSITORY", u.Name, u.Name)
	}
	if name == "" {
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown,
			"%s is an upstream: name a repository in it, as in %s/REPOSITORY", u.Name, u.Name)
	}
	if u.Library && !strings.Contains(name, "/") {
		name = "library/" + name
	}
	return u, oci.Repo{Upstream: u.Name, Name: name}, nil
}
