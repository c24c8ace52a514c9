package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder fills a Config from a parsed file. It goes on after a mistake, so
// that all of them are reported at once.
type decoder struct {
	file string
	cfg  *Config
	bad  *findings
}

// decode reads a whole YAML file over c.
func (c *Config) decode(file string, r io.Reader, bad *findings) {
	d := decoder{file: file, cfg: c, bad: bad}
	in := yaml.NewDecoder(r)
	var doc, more yaml.Node
	switch err := in.Decode(&doc); {
	case errors.Is(err, io.EOF): // nothing but comments: all defaults
		return
	case err != nil:
		d.syntax(err)
		return
	}
	if err := in.Decode(&more); err == nil {
		bad.add(d.at(&more), "a second document begins here; there can be only one")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	d.value(doc.Content[0], reflect.ValueOf(c).Elem(), "", "")
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// syntax reports what the YAML parser has to say. It never quotes a value,
// which may be a secret.
func (d *decoder) syntax(err error) {
	text, at := strings.TrimPrefix(err.Error(), "yaml: "), origin{source: d.file}
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	if strings.HasPrefix(text, "unknown anchor") {
		text = "unknown anchor; quote a value that begins with *"
	}
	d.bad.add(at, "%s", text)
}

func (d *decoder) at(n *yaml.Node) origin { return origin{d.file, n.Line} }

// value decodes n into v, which stands at path. enum is the field's tag.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path, enum string) {
	at := d.at(n)
	if path != "" {
		d.cfg.origins[path] = at
	}
	for n.Kind == yaml.AliasNode { // an alias to an alias can't be written, and Config's types are finite: this ends
		n = n.Alias
	}
	want := describe(v.Type())
	switch {
	case n.ShortTag() == "!!null" && v.Kind() == reflect.Struct: // a section in which all is commented out
	case n.ShortTag() == "!!null":
		d.bad.add(at, "%s: has no value; write %s or remove the line", path, want)
	case v.Kind() == reflect.Struct && v.Type() != roomType && n.Kind == yaml.MappingNode:
		d.section(n, v, path)
	case v.Type() == upstreamsType && n.Kind == yaml.MappingNode:
		d.upstreams(n, path)
	case v.Type() == hostedType && n.Kind == yaml.MappingNode:
		d.hosted(n, path)
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		d.list(n, v, path)
	case n.Kind == yaml.ScalarNode && isScalar(v.Type()):
		if err := setScalar(v, enum, n.Value); err != nil {
			d.bad.add(at, "%s: %v", path, err)
		}
	case path == "":
		d.bad.add(at, "want keys and values, got %s", kindName(n))
	default:
		d.bad.add(at, "%s: want %s, got %s", path, want, kindName(n))
	}
}

// section decodes a mapping whose keys are v's fields.
func (d *decoder) section(n *yaml.Node, v reflect.Value, path string) {
	known := keysOf(v.Type())
	d.pairs(n, path, func(key, val *yaml.Node) {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == key.Value })
		if i < 0 {
			d.bad.add(d.at(key), "%s", unknownKey(key.Value, path, known))
			return
		}
		d.value(val, v.Field(known[i].index), join(path, key.Value), known[i].enum)
	})
}

// upstreams decodes the mapping of names, which replaces the well-known ones.
func (d *decoder) upstreams(n *yaml.Node, path string) {
	d.cfg.Upstreams = map[string]*UpstreamConfig{}
	d.pairs(n, path, func(key, val *yaml.Node) {
		u := defaultUpstream(key.Value)
		d.cfg.Upstreams[key.Value] = u
		d.value(val, reflect.ValueOf(u).Elem(), join(path, key.Value), "")
		d.cfg.origins[join(path, key.Value)] = d.at(key)
	})
}

// pairs calls fn for each key of a mapping and its value.
func (d *decoder) pairs(n *yaml.Node, path string, fn func(key, val *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch first, again := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.bad.add(d.at(key), "want a key, got %s", kindName(key))
		case key.ShortTag() == "!!merge":
			d.bad.add(d.at(key), "merging (<<) is not supported; write the keys out")
		case again:
			d.bad.add(d.at(key), "%s: given twice, first in line %d", join(path, key.Value), first)
		default:
			seen[key.Value] = key.Line
			fn(key, val)
		}
	}
}

// list decodes a sequence in place of the default one.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		switch x := list.Index(i).Addr().Interface().(type) {
		case *IndexRule:
			*x = defaultRule()
		case *EventEndpoint:
			*x = defaultEndpoint()
		}
		d.value(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i), "")
	}
	v.Set(list)
}

var (
	roomType      = reflect.TypeFor[Room]()
	bytesType     = reflect.TypeFor[Bytes]()
	durationType  = reflect.TypeFor[time.Duration]()
	upstreamsType = reflect.TypeFor[map[string]*UpstreamConfig]()
	hostedType    = reflect.TypeFor[map[string]*HostedConfig]()
)

func isScalar(t reflect.Type) bool {
	k := t.Kind()
	return t == roomType || k == reflect.String || k == reflect.Bool || k == reflect.Int || k == reflect.Int64
}

// setScalar parses text into v, whatever its type.
func setScalar(v reflect.Value, enum, text string) error {
	var x any
	var err error
	switch t := v.Type(); {
	case t == roomType:
		x, err = ParseRoom(text)
	case t == bytesType:
		x, err = ParseBytes(text)
	case t == durationType:
		x, err = parseDuration(text)
	case t.Kind() == reflect.Bool:
		if x = text == "true"; text != "true" && text != "false" {
			err = fmt.Errorf("want true or false, got %q", text)
		}
	case t.Kind() == reflect.Int:
		if x, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("want a whole number, got %q", text)
		}
	default:
		x, err = text, checkEnum(enum, text)
	}
	if err == nil {
		v.Set(reflect.ValueOf(x))
	}
	return err
}

func checkEnum(enum, text string) error {
	if enum == "" || slices.Contains(strings.Split(enum, ","), text) {
		return nil
	}
	var quoted []string
	for _, e := range strings.Split(enum, ",") {
		quoted = append(quoted, strconv.Quote(e))
	}
	last := len(quoted) - 1
	return fmt.Errorf("want %s or %s, got %q", strings.Join(quoted[:last], ", "), quoted[last], text)
}

// describe names the kind of value that a key of type t takes.
func describe(t reflect.Type) string {
	switch {
	case t == roomType:
		return "a size such as 10GB or 80%"
	case t == bytesType:
		return "a size such as 4MiB"
	case t == durationType:
		return "a duration such as 30s"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.String:
		return "a string"
	default:
		return "keys and values"
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}
