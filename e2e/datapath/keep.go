package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// kept is a table that was measured in several runs: each suite as it was
// measured last, with its peers beside it, in the order of the table.
type kept struct {
	Suites []*keptSuite
}

// keptSuite is what one run of a suite brought.
type keptSuite struct {
	ID     string
	Place  int // in the table
	Date   string
	Commit string // of the program
	Rows   []*row
	Others []float64 // shares of the machine that other programs had
	Peak   int64     // most memory of a sociable; 0: none was noted
}

// openKept reads the file name. One that isn't there has kept nothing.
func openKept(name string) (*kept, error) {
	k := &kept{}
	if name == "" {
		return k, nil
	}
	body, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(body, k)
	}
	if err != nil {
		return nil, fmt.Errorf("results of earlier runs: %s: %w", name, err)
	}
	return k, nil
}

// put replaces what was kept of a suite.
func (k *kept) put(s *keptSuite) {
	k.Suites = slices.DeleteFunc(k.Suites, func(x *keptSuite) bool { return x.ID == s.ID })
	k.Suites = append(k.Suites, s)
	slices.SortStableFunc(k.Suites, func(a, b *keptSuite) int { return a.Place - b.Place })
}

// write stores what is kept in the file name.
func (k *kept) write(name string) error {
	body, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(body, '\n'), 0o644)
}

// rows are those of all suites.
func (k *kept) rows() (rows []*row) {
	for _, s := range k.Suites {
		rows = append(rows, s.Rows...)
	}
	return rows
}

// peak is the most memory that a sociable had in any suite, and in which.
func (k *kept) peak() (most int64, id string) {
	for _, s := range k.Suites {
		if s.Peak > most {
			most, id = s.Peak, s.ID
		}
	}
	return most, id
}

// when tells the days and commits of what was kept.
func (k *kept) when() string {
	var dates, commits []string
	for _, s := range k.Suites {
		dates, commits = append(dates, s.Date), append(commits, s.Commit)
	}
	slices.Sort(dates)
	return strings.Join(slices.Compact(dates), " to ") + ", commit " + strings.Join(uniq(commits), " and ")
}

// uniq are the different ones of xs, in their order.
func uniq(xs []string) (out []string) {
	for _, x := range xs {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// shares are those of all suites.
func (k *kept) shares() (all []float64) {
	for _, s := range k.Suites {
		all = append(all, s.Others...)
	}
	return all
}
