package proxy

import (
	"regexp"
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

// Literal is Proxy.Name of a name that another sociable wrote out in full: its
// first part has to be an upstream or a namespace here. It never means the
// default upstream, where that name may be somebody else's.
func (p *Proxy) Literal(word string) (oci.Repo, oci.Reference, error) {
	t := p.routes()
	if first, _, _ := strings.Cut(word, "/"); t.byName[first] == nil {
		return oci.Repo{}, oci.Reference{}, oci.NewError(errcode.ErrorCodeNameUnknown, "no upstream and no hosted namespace %.200q is configured here", first)
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

// Pattern reads a pattern of images, as index.rules have them, of one upstream: a
// name in which "*" and "**" may stand, and behind a colon a pattern of tags.
func (p *Proxy) Pattern(word string) (repo oci.Repo, tags string, err error) {
	name, tags := strings.TrimPrefix(word, "docker://"), "*"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tags = name[:i], name[i+1:]
	}
	if !patternGrammar.MatchString(withoutHost(name)) || !tagPatternGrammar.MatchString(tags) {
		return oci.Repo{}, "", oci.NewError(errcode.ErrorCodeNameInvalid, "%q is not a pattern of images; write ghcr.io/acme/**, or redis:7*", word)
	}
	if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, "*") && first != name {
		return oci.Repo{}, "", oci.NewError(errcode.ErrorCodeNameUnknown, "%q: name the upstream in front, as in docker.io/library/*", word)
	}
	up, repo, err := p.routes().named(name)
	if err == nil && strings.HasSuffix(name, "**") && up.Library && repo.Name == "library/**" && !strings.Contains(name, "library/") {
		repo.Name = "**"
	}
	return repo, tags, err
}

var (
	patternGrammar    = regexp.MustCompile(`^([a-z0-9._*-]+/)*[a-z0-9._*-]+$`)
	tagPatternGrammar = regexp.MustCompile(`^[A-Za-z0-9._*-]+$`)
)

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
