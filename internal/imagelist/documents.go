package imagelist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// documents looks into every document of a stream. JSON is YAML.
func (f *finder) documents(text []byte) (err error) {
	defer func() { // the parser is not ours, and the text may be anybody's
		if fault := recover(); fault != nil {
			err = fmt.Errorf("read the documents: the YAML parser failed: %v", fault)
		}
	}()
	in := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		switch err := in.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("neither a list of images nor YAML or JSON: %w", err)
		}
		f.aliases = map[*yaml.Node]bool{}
		f.walk(&doc, nil, 0)
	}
}

// trail is the way to a node. It is written out only where it is told: a text can
// be made that names a long way a million times.
type trail struct {
	up  *trail
	key string
	i   int // in a sequence; -1: key
}

const maxTrail = 300

// String is as in spec.containers[0], from the end where it is long.
func (t *trail) String() string {
	s := ""
	for ; t != nil && len(s) < maxTrail; t = t.up {
		switch {
		case t.i >= 0:
			s = "[" + strconv.Itoa(t.i) + "]" + s
		case s == "" || s[0] == '[':
			s = clip(t.key) + s
		default:
			s = clip(t.key) + "." + s
		}
	}
	if t != nil {
		s = "…" + s
	}
	return s
}

// walk looks below n, to which path leads.
func (f *finder) walk(n *yaml.Node, path *trail, depth int) {
	if depth > maxDepth {
		f.ignore(n, path, "is nested too deep to look into")
		return
	}
	switch n.Kind {
	case yaml.DocumentNode:
		for _, c := range n.Content {
			f.top(c, depth)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			f.walk(c, &trail{path, "", i}, depth+1)
		}
	case yaml.AliasNode:
		if n.Alias != nil && !f.aliases[n.Alias] { // once is enough: it says the same everywhere
			f.aliases[n.Alias] = true
			f.walk(n.Alias, path, depth+1)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			f.entry(n.Content[i].Value, n.Content[i+1], path, depth)
		}
	}
}

// top looks into a document, which may be a list of names itself.
func (f *finder) top(n *yaml.Node, depth int) {
	if n.Kind != yaml.SequenceNode {
		f.walk(n, nil, depth+1)
		return
	}
	for i, c := range n.Content {
		if c.Kind == yaml.ScalarNode {
			f.take(c, &trail{nil, "", i})
		} else {
			f.walk(c, &trail{nil, "", i}, depth+1)
		}
	}
}

// entry looks at one key of a mapping. "image" is an image, in a container of
// any sort and in whatever custom resource; in a volume its "reference" is.
func (f *finder) entry(key string, v *yaml.Node, path *trail, depth int) {
	at := &trail{path, key, -1}
	if v.Kind == yaml.AliasNode && v.Alias != nil && v.Alias.Kind == yaml.ScalarNode {
		v = v.Alias
	}
	switch {
	case key == "image" && v.Kind == yaml.ScalarNode:
		f.take(v, at)
		return
	case key == "image" && v.Kind == yaml.MappingNode:
		if ref := child(v, "reference"); ref != nil && ref.Kind == yaml.ScalarNode {
			f.take(ref, &trail{at, "reference", -1})
		} else if child(v, "repository") != nil {
			f.ignore(v, at, "is in parts; name it on a line of its own")
		}
	case v.Kind == yaml.ScalarNode && strings.HasSuffix(strings.ToLower(key), "image") && strings.ContainsAny(v.Value, "/:") && check(v.Value) == nil:
		f.ignore(v, at, "may be an image, but is under another key than image")
		return
	}
	f.walk(v, at, depth+1)
}

func (f *finder) take(v *yaml.Node, at *trail) {
	if v.Value == "" || v.Tag == "!!null" {
		f.ignore(v, at, "is empty")
		return
	}
	if err := check(v.Value); err != nil {
		f.ignore(v, at, err.Error())
		return
	}
	f.add(v.Value, v.Line)
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
