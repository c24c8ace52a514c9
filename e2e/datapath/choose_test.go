package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestChoose: rows are chosen by their suites' ids and by their own names.
func TestChoose(t *testing.T) {
	for word, want := range map[string][]string{
		"cold HEAD":     {"cold-head"},
		"cold-head":     {"cold-head"},
		"first byte":    {"cold-pull"},
		"^warm-ranges$": {"warm-ranges"},
		"a lazy mount's probes (`bytes=0-1`, header) of an indexed layer": {"span"},
		"silent|memory": {"silent", "memory"},
	} {
		chosen, err := choose(word)
		var got []string
		for _, x := range suites {
			if chosen[x.id] {
				got = append(got, x.id)
			}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", word, got, err, want)
		}
	}
	if chosen, err := choose("."); err != nil || len(chosen) != len(suites) || slices.Contains(slices.Collect(values(chosen)), false) {
		t.Errorf("all: %v, %v", chosen, err)
	}
	for _, word := range []string{"cold TAIL", "("} {
		if _, err := choose(word); err == nil {
			t.Errorf("%q: no error", word)
		}
	}
}

func values(m map[string]bool) func(func(bool) bool) {
	return func(yield func(bool) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestRowNames: each row that is made can be chosen by its name.
func TestRowNames(t *testing.T) {
	var known []string
	for _, names := range rowNames {
		known = append(known, names...)
	}
	files, err := filepath.Glob("rows_*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	made := regexp.MustCompile(`(?:newRow\(|\t\{)("[^"\n]*[a-z] [^"\n]*"), "`)
	n := 0
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made.FindAllStringSubmatch(string(body), -1) {
			name, err := strconv.Unquote(m[1])
			if err != nil {
				t.Fatal(err)
			}
			n++
			if !slices.ContainsFunc(known, func(x string) bool { return strings.Contains(x, name) }) {
				t.Errorf("%s: the row %q is not among rowNames", file, name)
			}
		}
	}
	if n < len(suites) {
		t.Errorf("%d rows were found", n)
	}
}
