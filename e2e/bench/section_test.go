package bench

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReplaceSection(t *testing.T) {
	const text = "## Pull\n\n| new |\n"
	for name, test := range map[string]struct{ doc, want string }{
		"no document": {"", text},
		"appended":    {"# Benchmarks\n\nIntro.\n", "# Benchmarks\n\nIntro.\n\n" + text},
		"last":        {"# B\n\n## Pull\n\nold\n\nold\n", "# B\n\n" + text},
		"between":     {"# B\n\n## Pull\n\nold\n\n### Sub\n\nold\n\n## Push\n\nkept\n", "# B\n\n" + text + "\n## Push\n\nkept\n"},
		"notes": {"## Pull\n\nold\n\n| a |\n| --- |\n| 1 |\n\nWhy.\n\nHow.\n\n## Push\n\nkept\n",
			text + "\nWhy.\n\nHow.\n\n## Push\n\nkept\n"},
		"notes, last": {"## Pull\n\n| a |\n| --- |\n\nWhy.\n", text + "\nWhy.\n"},
		"no notes":    {"## Pull\n\n| a |\n| --- |\n| 1 |", text},
		"no prefix":   {"## Pull more\n\nkept\n", "## Pull more\n\nkept\n\n" + text},
	} {
		t.Run(name, func(t *testing.T) {
			got := replaceSection(test.doc, text)
			if got != test.want {
				t.Errorf("got\n%q\nwant\n%q", got, test.want)
			}
			if again := replaceSection(got, text); again != got {
				t.Errorf("a second time changes it:\n%q", again)
			}
		})
	}
}

func TestWriteSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	tab := Table{Heading: "H", Intro: "i", Columns: []string{"a", "b"}, Rows: [][]string{{"x", "1"}}}
	for range 2 {
		if err := WriteSection(path, tab.Markdown()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "## H\n\ni\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n"; err != nil || string(got) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

func TestMedian(t *testing.T) {
	if got := median([]time.Duration{5, 1, 9, 3, 4}); got != 4 {
		t.Errorf("median = %d, want 4", got)
	}
}
