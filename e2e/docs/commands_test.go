package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	commandHead = regexp.MustCompile(`(?m)^## sociable ?(.*)$`)
	asTyped     = regexp.MustCompile(`(?:^|[\s(])sociable ((?:[a-z]|--)[^#|&;)·]*)`)
	flagName    = regexp.MustCompile(`(?:^|\s|\[)--([a-z][a-z-]+)`)
)

// reference is what the command line's reference, which is made from the code, says
// of each command.
func reference(t *testing.T) map[string]string {
	t.Helper()
	body, err := os.ReadFile("../../docs/reference/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	text, by := string(body), map[string]string{}
	heads := commandHead.FindAllStringSubmatchIndex(text, -1)
	for i, h := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		by[text[h[2]:h[3]]] = text[h[1]:end]
	}
	if len(by) < 30 {
		t.Fatalf("%d commands in the reference", len(by))
	}
	return by
}

// unknown says what of a command line, without "sociable", is in no reference; "".
func unknown(by map[string]string, line string) string {
	words := strings.Fields(line)
	n := 0
	for n < len(words) && by[strings.Join(words[:n+1], " ")] != "" {
		n++
	}
	command := strings.Join(words[:n], " ")
	if n == 0 && !strings.HasPrefix(line, "--") {
		return fmt.Sprintf("there is no command %q", line)
	}
	for _, f := range flagName.FindAllStringSubmatch(line, -1) {
		if !strings.Contains(by[command], "--"+f[1]) {
			return fmt.Sprintf("%q has no flag --%s", command, f[1])
		}
	}
	return ""
}

// TestCommandsExist: commands that no test can run, since they need another machine
// or a name that the reader fills in, are at least commands, with flags that they have.
func TestCommandsExist(t *testing.T) {
	by := reference(t)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range append(pages, "../../README.md") {
		body, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for n, line := range strings.Split(string(body), "\n") {
			if strings.HasPrefix(line, "```") {
				inside = line == "```sh" || line == "```console"
				continue
			}
			if !inside {
				continue
			}
			for _, c := range asTyped.FindAllStringSubmatch(line, -1) {
				seen++
				if why := unknown(by, strings.TrimSpace(c[1])); why != "" {
					t.Errorf("%s:%d: %s: %s", filepath.Base(page), n+1, line, why)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d commands were found", seen)
	}
	for _, line := range []string{"frobnicate redis:7", "stats --no-such-flag", "index list --sing"} {
		if unknown(by, line) == "" {
			t.Errorf("nothing is said of %q", line)
		}
	}
}
