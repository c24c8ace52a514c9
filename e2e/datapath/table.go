package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// row is one line of the table.
type row struct {
	Name, Target string
	Cells        map[kind]string
	Misses       []string `json:",omitempty"` // targets that were missed: told
	Faults       []string `json:",omitempty"` // what must not be: fails the run
}

func newRow(name, target string) *row {
	return &row{Name: name, Target: target, Cells: map[kind]string{}}
}

// fill writes the cells of everyone who was measured.
func (r *row) fill(all map[kind][]sample, format func([]sample) string) {
	for k, xs := range all {
		r.Cells[k] = tell(xs, format)
	}
	r.Faults = append(r.Faults, faultsOf(all[sociable])...)
}

// time notes a figure that depends on the machine's speed. Missing it is told.
func (r *row) time(ok bool, format string, args ...any) {
	if !ok {
		r.Misses = append(r.Misses, fmt.Sprintf(format, args...))
	}
}

// must notes what depends on no machine. Missing it fails the run.
func (r *row) must(ok bool, format string, args ...any) {
	if !ok {
		r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
	}
}

func (r *row) verdict() string {
	all := append(append([]string{}, r.Faults...), r.Misses...)
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
		fmt.Fprintf(&b, "| %s", r.Name)
		for _, k := range []kind{direct, nginx, distribution, sociable} {
			cell := r.Cells[k]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&b, " | %s", strings.ReplaceAll(cell, "|", "\\|"))
		}
		fmt.Fprintf(&b, " | %s | %s |\n", r.Target, strings.ReplaceAll(r.verdict(), "|", "\\|"))
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
