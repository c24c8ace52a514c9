package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// warningsOf are those of a file with text, without its name.
func warningsOf(t *testing.T, text string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yml")
	putFile(t, file, text)
	_, got, err := load(sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], file+":")
	}
	return got
}

// TestHiddenRules: a rule is warned of when an earlier one certainly takes all of its
// images, and only then.
func TestHiddenRules(t *testing.T) {
	const upstreams = "upstreams: {a.io: {}, b.io: {}}\nindex:\n  rules:\n"
	for _, tt := range []struct {
		first, second string // repositories, and what else a rule says
		hidden        bool
	}{
		{`"a.io/**"`, `"a.io/x"`, true},
		{`"a.io/x"`, `"a.io/x"`, true},
		{`"a.io/x/**", "b.io/**"`, `"a.io/x/*", "b.io/y:1*"`, true},
		{`"a.io/x"`, `"a.io/x:1"`, true},
		{`"a.io/**:*"`, `"a.io/x:1"`, true},
		{`"a.io/x:1*"`, `"a.io/x:1*"`, true},
		{`"a.io/x:1*"`, `"a.io/x"`, false},
		{`"a.io/**:*"`, `"a.io/x"`, false},
		{`"a.io/**"`, `"a.io/x", "b.io/x"`, false},
		{`"a.io/x/**"`, `"a.io/xy/z"`, false},
		{`"a.io/*"`, `"a.io/x/y"`, false},
		{`"a.io/*/**"`, `"a.io/x"`, false},
		{`"a.io/x"`, `"a.io/**"`, false},
		{`"a.io/**"], exclude: ["a.io/x"`, `"a.io/x"`, false},
	} {
		var want []string
		if tt.hidden {
			want = []string{"5: index.rules[1]: never applies, because index.rules[0] matches all of its images before it; put it first"}
		}
		got := warningsOf(t, upstreams+"    - {repositories: ["+tt.first+"]}\n    - {repositories: ["+tt.second+"]}\n")
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s before %s (-want +got):\n%s", tt.first, tt.second, diff)
		}
	}
}

// TestIdleHooks: a hook is warned of where what it tells of can't be fetched.
func TestIdleHooks(t *testing.T) {
	const hook = "hook: {secret: 0123456789abcdef}"
	const offline = "upstreams.a.io.hook: has no effect, because an upstream that is offline"
	for _, tt := range []struct{ text, want string }{
		{"upstreams:\n  a.io: {" + hook + "}\n", ""},
		{"upstreams:\n  a.io:\n    offline: true\n    " + hook + "\n", "4: " + offline},
		{"offline: true\nupstreams:\n  a.io: {" + hook + "}\n", "3: " + offline},
		{"upstreams:\n  a.io: {access: passthrough, " + hook + "}\n", "2: upstreams.a.io.hook: of what it tells only that is indexed"},
		{"access: passthrough\nupstreams:\n  a.io: {" + hook + "}\n", "3: upstreams.a.io.hook: of what it tells only that is indexed"},
		{"upstreams:\n  a.io: {access: passthrough}\n", ""},
	} {
		got := strings.Join(warningsOf(t, tt.text), "\n")
		if tt.want == "" && strings.Contains(got, ".hook") || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: warnings %q, want %q", tt.text, got, tt.want)
		}
	}
}
