package proxy

import (
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// Name reads an image's name as people and manifests write it, and says which
// repository it means here: with or without upstream, library/ and tag, and with
// the proxy's own address in front, too. A digest outweighs a tag. As with
// requests, what names no upstream that is configured is NAME_UNKNOWN.
func (p *Proxy) Name(word string) (oci.Repo, oci.Reference, error) { return p.routes().name(word) }

// Name is Proxy.Name of a proxy that has these upstreams, and that default one.
func Name(ups []*Upstream, def, word string) (oci.Repo, oci.Reference, error) {
	t, err := newRoutes(ups, def)
	if err != nil {
		return oci.Repo{}, oci.Reference{}, err
	}
	return t.name(word)
}

func (t *routes) name(word string) (oci.Repo, oci.Reference, error) {
	name, ref, err := splitName(strings.TrimPrefix(word, "docker://"))
	if err != nil {
		return oci.Repo{}, ref, err
	}
	if err := oci.CheckName(withoutHost(name)); err != nil {
		return oci.Repo{}, ref, err
	}
	_, repo, err := t.named(name)
	return repo, ref, err
}

// splitName cuts tag and digest off a name; without either the tag is latest.
func splitName(word string) (name string, ref oci.Reference, err error) {
	name, d, byDigest := strings.Cut(word, "@")
	tag := "latest"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	if ref, err = oci.ParseReference(tag); err == nil && ref.Tag == "" {
		err = oci.NewError(errcode.ErrorCodeTagInvalid, "invalid tag %q", tag)
	}
	if byDigest && err == nil {
		ref.Tag = ""
		ref.Digest, err = oci.ParseDigest(d)
	}
	return name, ref, err
}

// isHost reports a first segment that every client takes for a registry's
// address.
func isHost(segment string) bool { return strings.ContainsAny(segment, ".:") || segment == "localhost" }

// withoutHost is what of a name the grammar of repositories applies to.
func withoutHost(name string) string {
	if first, rest, ok := strings.Cut(name, "/"); ok && isHost(first) {
		return rest
	}
	return name
}

// named finds what a name means that came by no request. What a virtual host
// would add is not known, so an address of ours counts only before an upstream.
func (t *routes) named(name string) (*Upstream, oci.Repo, error) {
	first, rest, _ := strings.Cut(name, "/")
	if u := t.byName[first]; u != nil {
		return t.within(u, rest)
	}
	if isHost(first) && rest != "" {
		if u := t.byHost[first]; u != nil {
			return t.within(u, rest)
		}
		second, behind, _ := strings.Cut(rest, "/")
		if u := t.byName[second]; u != nil && behind != "" {
			return t.within(u, behind)
		}
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown, "no upstream %q is configured here", first)
	}
	if t.def == nil {
		return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeNameUnknown,
			"%q names no upstream, and there is no default upstream", name)
	}
	return t.within(t.def, name)
}
