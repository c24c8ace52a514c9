package main

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

const redacted = "<redacted>"

// show writes c as YAML with its keys in order and its secrets redacted. With
// origins, each value that is not a default says in a comment where it is from.
func (c *Config) show(origins bool) ([]byte, error) {
	s := shower{cfg: c, origins: origins}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(s.node(reflect.ValueOf(c).Elem(), "")); err != nil {
		return nil, fmt.Errorf("write the configuration as YAML: %w", err)
	}
	return out.Bytes(), enc.Close()
}

// values is what show writes, as JSON would have it. With origins, the key of
// that name has the source of each value that is not a default, by its path.
func (c *Config) values(origins bool) (map[string]any, error) {
	out, err := c.show(false)
	if err != nil {
		return nil, err
	}
	v := map[string]any{}
	if err := yaml.Unmarshal(out, &v); err != nil {
		return nil, fmt.Errorf("read the configuration as YAML: %w", err)
	}
	if origins {
		from := map[string]string{}
		for path, o := range c.origins {
			from[path] = o.String()
		}
		v["origins"] = from
	}
	return v, nil
}

type shower struct {
	cfg     *Config
	origins bool
}

func (s *shower) node(v reflect.Value, path string) *yaml.Node {
	switch x := v.Interface().(type) {
	case Room, Bytes:
		return s.scalar("!!str", fmt.Sprint(x), path)
	case time.Duration:
		return s.scalar("!!str", formatDuration(x), path)
	case bool:
		return s.scalar("!!bool", strconv.FormatBool(x), path)
	case int:
		return s.scalar("!!int", strconv.Itoa(x), path)
	case string:
		return s.scalar("!!str", x, path)
	case map[string]*UpstreamConfig:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			n.Content = append(n.Content, text(name), s.node(reflect.ValueOf(x[name]).Elem(), join(path, name)))
		}
		return n
	case map[string]*HostedConfig:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			n.Content = append(n.Content, text(name), s.node(reflect.ValueOf(x[name]).Elem(), join(path, name)))
		}
		return n
	}
	if v.Kind() == reflect.Slice {
		return s.list(v, path)
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range keysOf(v.Type()) {
		val := s.node(v.Field(f.index), join(path, f.key))
		if f.secret && val.Value != "" {
			val.SetString(redacted)
		}
		for i := range val.Content {
			if f.secret {
				val.Content[i].SetString(redacted)
			}
		}
		n.Content = append(n.Content, text(f.key), val)
	}
	return n
}

func (s *shower) list(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if v.Type().Elem().Kind() == reflect.String {
		n.Style = yaml.FlowStyle
		s.comment(n, path)
	}
	for i := range v.Len() {
		n.Content = append(n.Content, s.node(v.Index(i), fmt.Sprintf("%s[%d]", path, i)))
	}
	return n
}

func (s *shower) scalar(tag, value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	if tag == "!!str" && value == "" {
		n.Style = yaml.DoubleQuotedStyle
	}
	s.comment(n, path)
	return n
}

func (s *shower) comment(n *yaml.Node, path string) {
	if o, ok := s.cfg.origins[path]; ok && s.origins {
		n.LineComment = o.String()
	}
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
