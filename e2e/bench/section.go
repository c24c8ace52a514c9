package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Table is what a benchmark prints.
type Table struct {
	Heading string // of its section in the document
	Intro   string
	Columns []string
	Rows    [][]string
}

// Markdown is the section.
func (t Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", t.Heading, t.Intro)
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(t.Columns, " | "), " --- |"+strings.Repeat(" ---: |", len(t.Columns)-1))
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
	}
	return b.String()
}

// WriteSection replaces the section of a Markdown file that has the same
// heading as text, down to the end of its table, or puts text at the end of the
// file. What somebody wrote below the table stays. A missing file is made.
func WriteSection(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(replaceSection(string(old), text)), 0o644)
}

func replaceSection(doc, text string) string {
	heading, _, _ := strings.Cut(text, "\n")
	text = strings.TrimRight(text, "\n") + "\n"
	lines := strings.SplitAfter(doc, "\n")
	start := slices.IndexFunc(lines, func(l string) bool { return strings.TrimRight(l, "\n") == heading })
	if start < 0 {
		if doc = strings.TrimRight(doc, "\n"); doc != "" {
			doc += "\n\n"
		}
		return doc + text
	}
	end := len(lines)
	for i := start + 1; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "## ") || strings.HasPrefix(lines[i], "# ") {
			end = i
			break
		}
	}
	if notes := belowTable(lines[start:end]); notes != "" {
		text += "\n" + notes + "\n"
	}
	if end < len(lines) {
		text += "\n"
	}
	return strings.Join(lines[:start], "") + text + strings.Join(lines[end:], "")
}

// belowTable is what a section has behind its first table; nothing if it has none.
func belowTable(section []string) string {
	isRow := func(l string) bool { return strings.HasPrefix(l, "|") }
	first := slices.IndexFunc(section, isRow)
	if first < 0 {
		return ""
	}
	rest := section[first:]
	rows := slices.IndexFunc(rest, func(l string) bool { return !isRow(l) })
	if rows < 0 {
		return ""
	}
	return strings.Trim(strings.Join(rest[rows:], ""), "\n")
}

// Circumstances say when, on what and from which commit a table is.
func Circumstances() string {
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	cpu := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.Trim(name, "\t :\n")
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores of %s, commit %s, %s",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), cpu, strings.TrimSpace(string(commit)), runtime.Version())
}

// median sorts xs.
func median[T int64 | time.Duration](xs []T) T {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
