package imagelist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
			f.walk(c, path.at(i), depth+1)
		}
	case yaml.AliasNode:
		if n.Alias != nil && !f.aliases[n.Alias] { // once is enough: it says the same everywhere
			f.aliases[n.Alias] = true
			f.walk(n.Alias, path, depth+1)
		}
	case yaml.MappingNode:
		f.variable(n, path)
		kind := child(n, "kind")
		object := kind != nil && kind.Kind == yaml.ScalarNode && kind.Value != ""
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			at := path.to(key)
			at.idle = at.idle || object && (inert[kind.Value] || inertKeys[key])
			f.entry(key, n.Content[i+1], path, at, depth)
		}
	}
}

// Nothing runs what stands in these objects, nor in these parts of any: an image
// there is told.
var (
	inert     = map[string]bool{"ConfigMap": true, "Secret": true, "CustomResourceDefinition": true}
	inertKeys = map[string]bool{"metadata": true, "status": true, "data": true, "stringData": true, "binaryData": true}
)

// top looks into a document, which may be a list of names itself.
func (f *finder) top(n *yaml.Node, depth int) {
	if n.Kind != yaml.SequenceNode {
		f.walk(n, nil, depth+1)
		return
	}
	for i, c := range n.Content {
		if c.Kind == yaml.ScalarNode {
			f.take(c, (*trail)(nil).at(i), true)
		} else {
			f.walk(c, (*trail)(nil).at(i), depth+1)
		}
	}
}

// entry looks at one key of the mapping at path. "image" is an image, in a
// container of any sort and in whatever custom resource; in a volume its
// "reference" is. So are "imageName" and those of a list of "images", where they
// are written as images are.
func (f *finder) entry(key string, v *yaml.Node, path, at *trail, depth int) {
	v = scalarOf(v)
	scalar := v.Kind == yaml.ScalarNode
	switch {
	case scalar && !at.idle && key == "image":
		f.take(v, at, path.isContainer())
		return
	case scalar && !at.idle && key == "imageName":
		f.takeWritten(v, at)
		return
	case !at.idle && key == "images" && v.Kind == yaml.SequenceNode:
		for i, c := range v.Content {
			if c = scalarOf(c); c.Kind == yaml.ScalarNode {
				f.takeWritten(c, at.at(i))
			} else {
				f.walk(c, at.at(i), depth+2)
			}
		}
		return
	case !at.idle && key == "image" && v.Kind == yaml.MappingNode:
		if ref := child(v, "reference"); ref != nil && ref.Kind == yaml.ScalarNode {
			f.take(ref, at.to("reference"), true)
		} else if child(v, "repository") != nil {
			f.ignore(v, at, "is in parts; name it on a line of its own")
		}
	case scalar && at.idle && imageKey(key) && looks(v.Value) && !f.seen[v.Value]:
		f.ignore(v, at, "may be an image, but nothing runs it there")
		return
	case scalar && imageKey(key) && looks(v.Value) && !at.idle:
		f.ignore(v, at, "may be an image, but is under another key than image")
		return
	}
	f.walk(v, at, depth+1)
}

// variable tells of an environment variable that may name an image, which the
// program that has it may run.
func (f *finder) variable(n *yaml.Node, path *trail) {
	name, v := child(n, "name"), child(n, "value")
	if name == nil || v == nil || v.Kind != yaml.ScalarNode || !looks(v.Value) || f.seen[v.Value] {
		return
	}
	if word := strings.ToUpper(name.Value); strings.HasSuffix(word, "IMAGE") || strings.HasPrefix(word, "RELATED_IMAGE_") {
		f.ignore(v, path.to("value"), "may be an image, but is a variable's value")
	}
}

func imageKey(key string) bool {
	key = strings.ToLower(key)
	return strings.HasSuffix(key, "image") || key == "imagename"
}

// looks reports what is written as an image, and hardly as anything else.
func looks(word string) bool { return strings.ContainsAny(word, "/:") && check(word) == nil }

// take adds an image. What is none is bad, since nothing can run without it; but
// where something else could stand, and must is false, nothing may stand there,
// and a URL.
func (f *finder) take(v *yaml.Node, at *trail, must bool) {
	err := check(v.Value)
	switch {
	case v.Value == "" || v.Tag == "!!null":
		f.refuse(v, at, "is empty", must)
	case err != nil:
		f.refuse(v, at, err.Error(), must || !strings.Contains(v.Value, "://"))
	default:
		f.add(v.Value, v.Line)
	}
}

// takeWritten is take for a value that may be something else: a pattern, or the
// name of a machine's image.
func (f *finder) takeWritten(v *yaml.Node, at *trail) {
	switch {
	case v.Value == "" || v.Tag == "!!null":
	case !strings.ContainsAny(v.Value, "/:"):
		f.ignore(v, at, "may be an image, but has neither a registry, nor a tag, nor a path")
	case strings.Contains(v.Value, "*"):
		f.ignore(v, at, "is a pattern")
	default:
		f.take(v, at, false)
	}
}

// scalarOf follows an alias to a scalar.
func scalarOf(v *yaml.Node) *yaml.Node {
	if v.Kind == yaml.AliasNode && v.Alias != nil && v.Alias.Kind == yaml.ScalarNode {
		return v.Alias
	}
	return v
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
