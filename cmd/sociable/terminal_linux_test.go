package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sociable/sociable/web"
)

// TestDoctorColours: verdicts have colours on a terminal and nowhere else.
func TestDoctorColours(t *testing.T) {
	for _, tt := range []struct {
		name, noColour, term string
		want                 string
	}{
		{"a terminal", "", "xterm", red + "FAIL" + plain + "  connect"},
		{"NO_COLOR", "1", "xterm", "FAIL  connect"},
		{"a dumb one", "", "dumb", "FAIL  connect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColour)
			t.Setenv("TERM", tt.term)
			x := newTerminal(t)
			var errs bytes.Buffer
			if code := run([]string{"doctor", "--proxy", "127.0.0.1:1"}, x.File, &errs); code != exitFailed {
				t.Errorf("exit %d: %s", code, &errs)
			}
			if text := x.all(); !strings.Contains(text, tt.want) || strings.Contains(text, "\x1b") != strings.Contains(tt.want, "\x1b") {
				t.Errorf("want %q in %q", tt.want, text)
			}
		})
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if out, _, _ := runSociable(t, "", "doctor", "--proxy", "127.0.0.1:1"); !strings.Contains(out, "FAIL  connect") || strings.Contains(out, "\x1b") {
		t.Errorf("in a pipe: %q", out)
	}
}

// TestJobsFit: a line of the list fits the terminal, and says no repository twice.
func TestJobsFit(t *testing.T) {
	list := []web.Job{
		{ID: "image:lab/acme/app:1", Repository: "lab/acme/app", State: web.JobFailed, Error: strings.Repeat("é", 200)},
		{ID: "layer:sha256:1234", Repository: "lab/acme/app", State: web.JobWaiting},
	}
	for width, longest := range map[int]int{0: 250, 80: 80} {
		var out bytes.Buffer
		if err := printJobs(&out, list, width); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "lab/acme/app"); n != 2 {
			t.Errorf("the repository is there %d times:\n%s", n, &out)
		}
		most := 0
		for line := range strings.Lines(out.String()) {
			most = max(most, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")))
		}
		if width > 0 && most != longest || width == 0 && most < longest {
			t.Errorf("at %d columns a line has %d:\n%s", width, most, &out)
		}
	}
}
