package indexer

import (
	"strings"

	"github.com/sociable/sociable/internal/oci"
)

// ConvertedAt gives the tag whose converted form tag stands for, where a rule
// has that served beside it: "7" for "7-soci".
func (x *Indexer) ConvertedAt(repo oci.Repo, tag string) (base string, ok bool) {
	base, ok = strings.CutSuffix(tag, ConvertedSuffix)
	if !ok || base == "" || x.opt.Disabled {
		return "", false
	}
	r := x.ruleFor(named{repo, []string{base}})
	return base, r.converts() && r.V2At != V2AtTag
}

// ConvertedInPlace reports whether a rule has the converted form of tag served
// at the tag itself.
func (x *Indexer) ConvertedInPlace(repo oci.Repo, tag string) bool {
	if x.opt.Disabled {
		return false
	}
	r := x.ruleFor(named{repo, []string{tag}})
	return r.converts() && r.V2At == V2AtTag
}
