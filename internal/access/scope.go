package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sociable/sociable/internal/oci"
)

// Bounds on what one token can be asked to be for.
const (
	maxScopes     = 64
	maxScopeBytes = 1024
)

var errScope = errors.New("want repository:NAME:pull or the like")

// scope is one thing that a token is asked to be for, of the distribution
// project's "Token Scope Documentation".
type scope struct {
	kind    string // "repository", or "registry" with the name "catalog": no other means anything here
	name    string // as it was sent
	actions []string
}

// parseScopes reads the values of all scope parameters, each of which may hold
// several, separated by spaces.
func parseScopes(values []string) ([]scope, error) {
	var out []scope
	for _, v := range values {
		for s := range strings.FieldsSeq(v) {
			if len(out) == maxScopes {
				return nil, fmt.Errorf("more than %d scopes", maxScopes)
			}
			x, err := parseScope(s)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
	}
	return out, nil
}

// parseScope splits at the first and at the last colon: a name may hold one, in
// front of a port.
func parseScope(s string) (scope, error) {
	if len(s) > maxScopeBytes {
		return scope{}, fmt.Errorf("scope of %d bytes: %w", len(s), errScope)
	}
	kind, rest, _ := strings.Cut(s, ":")
	i := strings.LastIndexByte(rest, ':')
	if kind == "" || i < 1 {
		return scope{}, fmt.Errorf("scope %q: %w", s, errScope)
	}
	x := scope{name: rest[:i]}
	x.kind, _, _ = strings.Cut(kind, "(") // repository(plugin)
	for a := range strings.SplitSeq(rest[i+1:], ",") {
		if a != "" {
			x.actions = append(x.actions, a)
		}
	}
	return x, nil
}

// allActions are those that a token can be for, in the order of their names.
var allActions = []oci.Action{oci.ActionDelete, oci.ActionPull, oci.ActionPush}

// wants are the actions that s names and that there are; "*" stands for all.
func (s scope) wants() []oci.Action {
	if s.kind != "repository" {
		return nil
	}
	var out []oci.Action
	for _, a := range allActions {
		for _, w := range s.actions {
			if w == string(a) || w == "*" {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

// catalogScope is what a token must be for to list repositories.
const catalogScope = "registry:catalog:*"

// lists reports whether s is that.
func (s scope) lists() bool {
	return s.kind == "registry" && s.name == "catalog" && slices.Contains(s.actions, "*")
}

// listing is the grant of it.
func listing() Grant { return Grant{Type: "registry", Name: "catalog", Actions: []string{"*"}} }

// list reports whether one of gs is to list repositories.
func list(gs []Grant) bool {
	return slices.ContainsFunc(gs, func(g Grant) bool { return g.Type == "registry" && g.Name == "catalog" })
}

// Grant is one thing that a token is for: the "access" claim of the
// distribution project's tokens.
type Grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// granted reports whether one of gs is for action in repo.
func granted(gs []Grant, repo oci.Repo, action oci.Action) bool {
	for _, g := range gs {
		if g.Name == repo.String() && g.has(action) {
			return true
		}
	}
	return false
}

func (g Grant) has(action oci.Action) bool {
	if g.Type != "repository" {
		return false
	}
	for _, a := range g.Actions {
		if a == string(action) || a == "*" {
			return true
		}
	}
	return false
}
