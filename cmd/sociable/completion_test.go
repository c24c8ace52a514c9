package main

import (
	"strings"
	"testing"
)

// TestCompletion: names that the running server knows are completed, in the
// spelling that was begun.
func TestCompletion(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	s.push(t, "library/tool:2.0", 5, "amd64")
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/app:1", "up/library/tool:2.0", "--data", srv.dir)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"pin", ""}, "up/acme/app:1 up/library/tool:2.0 :4"},
		{[]string{"pin", "up/a"}, "up/acme/app:1 :4"},
		{[]string{"index", "info", "acme/app:"}, "acme/app:1 :4"},
		{[]string{"stats", "too"}, "tool:2.0 :4"},
		{[]string{"pin", "up/acme/app:1", ""}, ":4"},
		{[]string{"warm", "up/acme/app:1", "to"}, "tool:2.0 :4"},
		{[]string{"unpin", "up/l"}, "up/library/tool:2.0 :4"},
		{[]string{"purge", "x"}, ":0"},
		{[]string{"jobs", "retry", ""}, ":0"},
	} {
		args := append([]string{"__complete"}, tt.args[:len(tt.args)-1]...)
		args = append(args, "--data", srv.dir, tt.args[len(tt.args)-1])
		if got := strings.Join(strings.Fields(must(t, args...)), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
	if got := strings.TrimSpace(must(t, "__complete", "pin", "--data", t.TempDir(), "")); got != ":0" {
		t.Errorf("without a server: %q", got)
	}
}
