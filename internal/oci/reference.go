package oci

import (
	_ "crypto/sha256" // registers sha256 for go-digest
	_ "crypto/sha512" // registers sha512 for go-digest
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
)

// MaxNameLength bounds a repository name, as the distribution specification
// asks of clients that want to stay compatible.
const MaxNameLength = 255

// The grammar of the distribution specification, "Pulling manifests".
var (
	nameGrammar = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Repo is a repository's one identity: the configured upstream's name and the
// repository name as that upstream knows it, whichever spelling a request used.
type Repo struct {
	Upstream string // configured name, e.g. "docker.io"
	Name     string // e.g. "library/redis"
}

// String is the canonical spelling, "docker.io/library/redis".
func (r Repo) String() string { return r.Upstream + "/" + r.Name }

// ParseRepo splits the canonical spelling at its first slash.
func ParseRepo(s string) (Repo, error) {
	up, name, ok := strings.Cut(s, "/")
	if !ok || up == "" {
		return Repo{}, NewError(errcode.ErrorCodeNameInvalid, "repository %q does not name an upstream", s)
	}
	return Repo{Upstream: up, Name: name}, CheckName(name)
}

// CheckName reports NAME_INVALID for a name outside the specification's grammar.
func CheckName(name string) error {
	if len(name) > MaxNameLength {
		return NewError(errcode.ErrorCodeNameInvalid, "repository name is longer than %d characters", MaxNameLength)
	}
	if !nameGrammar.MatchString(name) {
		return NewError(errcode.ErrorCodeNameInvalid, "invalid repository name %q", clip(name))
	}
	return nil
}

// AttachedTags are the tags at which cosign keeps the signatures, attestations and
// SBOMs of the manifest d, where it does not make them referrers.
func AttachedTags(d digest.Digest) []string {
	stem := d.Algorithm().String() + "-" + d.Encoded()
	return []string{stem + ".sig", stem + ".att", stem + ".sbom"}
}

// Reference is what stands behind /manifests/: exactly one of the two is set.
type Reference struct {
	Tag    string
	Digest digest.Digest
}

// String gives the reference as it stands in a URL.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// ParseReference reads a tag or a digest. Whatever has a colon is meant as a
// digest: DIGEST_INVALID; everything else as a tag: TAG_INVALID.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{Digest: d}, err
	}
	if !tagGrammar.MatchString(s) {
		return Reference{}, NewError(errcode.ErrorCodeTagInvalid, "invalid tag %q", clip(s))
	}
	return Reference{Tag: s}, nil
}

// ParseDigest accepts sha256 and sha512 in canonical lower-case form only.
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == "" {
		return d, nil // what nearly all are, without an expression
	}
	if err := d.Validate(); err != nil {
		return "", &Error{
			Code: errcode.ErrorCodeDigestInvalid, Err: err,
			Message: fmt.Sprintf("invalid digest %q: want sha256:<64 lower-case hex> or sha512:<128>", clip(s)),
		}
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", NewError(errcode.ErrorCodeDigestInvalid, "unsupported digest algorithm %q", a)
	}
	return d, nil
}

func clip(s string) string { return Clip(s, 100) }

// Clip is s, cut behind n bytes: nobody who asks decides how long a line of the
// log, or an answer, gets.
func Clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
