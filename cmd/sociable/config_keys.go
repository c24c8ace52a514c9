package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// field is one key of a section.
type field struct {
	key    string
	index  int // of the struct field
	enum   string
	secret bool
}

// keysOf lists the keys of a section's type in their order.
func keysOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		f := t.Field(i)
		if key := f.Tag.Get("yaml"); key != "" {
			fs = append(fs, field{key, i, f.Tag.Get("enum"), f.Tag.Get("secret") != ""})
		}
	}
	return fs
}

// leaf is a key with a value of its own: a scalar, or a list.
type leaf struct {
	path string
	v    reflect.Value
	enum string
}

// leaves lists every key of c that has a value, those of each upstream included.
func (c *Config) leaves() []leaf {
	var list []leaf
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for _, f := range keysOf(v.Type()) {
			p, fv := join(path, f.key), v.Field(f.index)
			switch {
			case fv.Type() == upstreamsType:
				for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
					walk(reflect.ValueOf(c.Upstreams[name]).Elem(), join(p, name))
				}
			case fv.Type() == hostedType:
				for _, name := range slices.Sorted(maps.Keys(c.Hosted)) {
					walk(reflect.ValueOf(c.Hosted[name]).Elem(), join(p, name))
				}
			case fv.Kind() == reflect.Struct && fv.Type() != roomType:
				walk(fv, p)
			default:
				list = append(list, leaf{p, fv, f.enum})
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
	return list
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknownKey says what was probably meant: a key of this section with nearly
// that name, the same key in another section, or else what there is.
func unknownKey(key, path string, known []field) string {
	var names []string
	for _, f := range known {
		names = append(names, f.key)
	}
	text := fmt.Sprintf("unknown key %q", key)
	if near, ok := similar(key, names); ok {
		return fmt.Sprintf("%s; did you mean %q?", text, near)
	}
	for _, l := range Default().leaves() {
		if strings.HasSuffix(l.path, "."+key) && !strings.HasPrefix(l.path, "upstreams.") && !strings.HasPrefix(l.path, "hosted.") {
			return fmt.Sprintf("%s; did you mean %s?", text, l.path)
		}
	}
	where := "at the top level"
	if path != "" {
		where = "in " + path
	}
	return fmt.Sprintf("%s; known %s: %s", text, where, strings.Join(names, ", "))
}

// similar finds the candidate that word is probably a misspelling of.
func similar(word string, candidates []string) (string, bool) {
	near, dist := nearest(word, candidates)
	return near, near != "" && dist <= 1+len(word)/4
}

// nearest finds the candidate with the fewest edits to word.
func nearest(word string, candidates []string) (best string, dist int) {
	dist = -1
	for _, c := range candidates {
		if d := editDistance(word, c); dist < 0 || d < dist {
			best, dist = c, d
		}
	}
	return best, dist
}

// didYouMean ends a sentence about a word that is none of the candidates.
func didYouMean(word string, candidates []string) string {
	if near, dist := nearest(word, candidates); dist >= 0 {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// editDistance counts insertions, deletions, replacements and swaps of
// neighbours between a and b (optimal string alignment).
func editDistance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
