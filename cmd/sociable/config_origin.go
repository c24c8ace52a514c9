package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// origin is where a value was given: a line of a file, an environment variable
// or a flag. The zero origin is the default.
type origin struct {
	source string // "config.yml", "SOCIABLE_LISTEN", "--listen"
	line   int    // 0 where the source has no lines
}

func (o origin) String() string {
	switch {
	case o.source == "":
		return "default"
	case o.line == 0:
		return o.source
	default:
		return o.source + ":" + strconv.Itoa(o.line)
	}
}

// origin finds where path, or else the section that it is missing from, was given.
func (c *Config) origin(path string) origin {
	for {
		if o, ok := c.origins[path]; ok {
			return o
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return origin{}
		}
		path = path[:i]
	}
}

// findings are what is wrong, or merely doubtful, with a configuration.
type findings struct{ list []finding }

type finding struct {
	at   origin
	text string
}

func (f *findings) add(at origin, format string, args ...any) {
	f.list = append(f.list, finding{at, fmt.Sprintf(format, args...)})
}

// lines are the findings as they are printed, a file's in the order of its lines.
func (f *findings) lines() []string {
	slices.SortStableFunc(f.list, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.at.source, b.at.source), cmp.Compare(a.at.line, b.at.line))
	})
	lines := make([]string, len(f.list))
	for i, x := range f.list {
		if lines[i] = x.text; x.at.source != "" {
			lines[i] = x.at.String() + ": " + x.text
		}
	}
	return slices.Compact(lines)
}

// err joins all findings, or is nil where there are none.
func (f *findings) err() error {
	var errs []error
	for _, l := range f.lines() {
		errs = append(errs, errors.New(l))
	}
	return errors.Join(errs...)
}
