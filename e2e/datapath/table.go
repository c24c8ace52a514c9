package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// row is one line of the table.
type row struct {
	name, target string
	cells        map[kind]string
	extra        string   // beside the peers: what else was compared
	misses       []string // targets that were missed: told
	faults       []string // what must not be: fails the run
}

func newRow(name, target string) *row {
	return &row{name: name, target: target, cells: map[kind]string{}}
}

// fill writes the cells of everyone who was measured.
func (r *row) fill(all map[kind][]sample, format func([]sample) string) {
	for k, xs := range all {
		r.cells[k] = tell(xs, format)
	}
	r.faults = append(r.faults, faultsOf(all[sociable])...)
}

// time notes a figure that depends on the machine's speed. Missing it is told.
func (r *row) time(ok bool, format string, args ...any) {
	if !ok {
		r.misses = append(r.misses, fmt.Sprintf(format, args...))
	}
}

// must notes what depends on no machine. Missing it fails the run.
func (r *row) must(ok bool, format string, args ...any) {
	if !ok {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

func (r *row) verdict() string {
	all := append(append([]string{}, r.faults...), r.misses...)
	if len(all) == 0 {
		return "pass"
	}
	return "**fail**: " + strings.Join(all, "; ")
}

// markdown is the table, the way it stands in the documentation.
func markdown(rows []*row) string {
	var b strings.Builder
	b.WriteString("| row | direct / limit | nginx | distribution | sociable | target | verdict |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s", r.name)
		for _, k := range []kind{direct, nginx, distribution, sociable} {
			cell := r.cells[k]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&b, " | %s", strings.ReplaceAll(cell, "|", "\\|"))
		}
		fmt.Fprintf(&b, " | %s | %s |\n", r.target, strings.ReplaceAll(r.verdict(), "|", "\\|"))
	}
	return b.String()
}

// The section of the documentation that is ours.
const (
	sectionBegin = "<!-- data path: begin -->\n"
	sectionEnd   = "<!-- data path: end -->\n"
)

// writeSection puts text where our section is in a document, or behind
// everything if it has none yet.
func writeSection(name, text string) error {
	body, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		body, err = []byte("# Benchmarks\n"), nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(name, replaceSection(body, text), 0o644)
}

func replaceSection(body []byte, text string) []byte {
	section := []byte(sectionBegin + text + sectionEnd)
	before, rest, found := bytes.Cut(body, []byte(sectionBegin))
	_, after, ended := bytes.Cut(rest, []byte(sectionEnd))
	if !found || !ended {
		before, after = append(bytes.TrimRight(body, "\n"), "\n\n"...), nil
	}
	return bytes.Join([][]byte{before, section, after}, nil)
}
