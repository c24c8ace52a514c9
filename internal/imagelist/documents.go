package imagelist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
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
		f.aliases, f.with = map[*yaml.Node]bool{}, map[*yaml.Node]bool{}
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
		f.container(n, path)
		kind := child(n, "kind")
		object := kind != nil && kind.Kind == yaml.ScalarNode && kind.Value != ""
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			at := path.to(key)
			at.idle = at.idle || object && (inert[kind.Value] || inertKeys[key])
			at.runs = at.runs || object && workloads[kind.Value]
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
	case !at.idle && key == "image" && path.isContainer():
		f.takeOf(v, at, true)
		return
	case scalar && !at.idle && key == "image":
		f.takeOf(v, at, false)
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
	case !at.idle && key == "image" && v.Kind == yaml.SequenceNode:
		f.ignore(v, at, "is a list, and no image's name")
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

// takeOf is take for the value of "image", which is a text or nothing that runs.
func (f *finder) takeOf(v *yaml.Node, at *trail, must bool) {
	of := v
	if v.Kind == yaml.AliasNode && v.Alias != nil {
		of = v.Alias
	}
	switch tag := of.ShortTag(); {
	case of.Kind == yaml.MappingNode:
		f.refuse(v, at, "is a mapping, and no image's name", must)
	case of.Kind == yaml.SequenceNode:
		f.refuse(v, at, "is a list, and no image's name", must)
	case tag == "!!int", tag == "!!float", tag == "!!bool":
		f.refuse(v, at, "is a "+map[string]string{"!!int": "number", "!!float": "number", "!!bool": "truth value"}[tag]+", and no image's name; quote it if it is one", must)
	default:
		f.take(v, at, must)
	}
}

// workloads have containers that need an image. In other objects a container may
// be what is changed of one.
var workloads = map[string]bool{
	"Pod": true, "PodTemplate": true, "Deployment": true, "StatefulSet": true, "DaemonSet": true, "ReplicaSet": true,
	"ReplicationController": true, "Job": true, "CronJob": true,
}

// container tells of a container without an image.
func (f *finder) container(n *yaml.Node, path *trail) {
	if path.isContainer() && !path.idle && !f.hasImage(n) {
		f.refuse(n, path, "is a container without an image", path.runs)
	}
}

// hasImage reports an image of n, or of what is merged into it. Each mapping of a
// document is looked at once: a text can be made that merges one a million times.
func (f *finder) hasImage(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return false
	}
	if has, ok := f.with[n]; ok {
		return has
	}
	f.with[n] = false // for a circle
	has := child(n, "image") != nil
	if merged := child(n, "<<"); !has && merged != nil {
		from := []*yaml.Node{merged}
		if merged.Kind == yaml.SequenceNode {
			from = merged.Content
		}
		has = slices.ContainsFunc(from, f.hasImage)
	}
	f.with[n] = has
	return has
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
