package access

import (
	"net/http"
	"testing"
)

// TestUpstreamMoved: what an upstream said about callers counts for it alone, and
// not at another address under the same name: neither a refusal nor a permission.
func TestUpstreamMoved(t *testing.T) {
	apply := func(b *bench, at string) {
		p := b.a.policy.Load().Policy
		p.Addresses = map[string]string{"b.io": "https://b.io"}
		if at != "" {
			p.Addresses["a.io"] = at
		}
		b.a.Apply(p)
	}
	for _, tt := range []struct {
		name string
		to   string // where a.io is after the reload; "": it is offline
		kept bool
	}{
		{"to another address", "https://right", false},
		{"nowhere else", "https://wrong", true},
		{"offline", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, f := newPassBench(t)
			apply(b, "https://wrong")
			get := func(repo, user, password string) int {
				return b.get(t, "/v2/"+repo+"/manifests/1", user, password).StatusCode
			}
			for _, repo := range []string{"a.io/y", "b.io/x"} {
				if got := get(repo, "alice", "wonder"); got != http.StatusOK {
					t.Fatalf("%s: %d", repo, got)
				}
			}
			f.set(false, true)
			if got := get("a.io/x", "alice", "wonder"); got != http.StatusUnauthorized {
				t.Fatalf("what is refused: %d", got)
			}
			if got := get("a.io/x", "", ""); got != http.StatusUnauthorized {
				t.Fatalf("what is refused to nobody: %d", got)
			}
			f.set(false, false)
			apply(b, tt.to)
			f.take()
			if got := get("a.io/x", "alice", "wonder"); (got == http.StatusOK) == tt.kept {
				t.Errorf("what was refused: %d, want that it counts: %t", got, tt.kept)
			}
			f.set(true, false)
			if got := get("a.io/y", "alice", "wonder"); (got == http.StatusOK) != tt.kept {
				t.Errorf("what was allowed, the upstream down: %d, want that it counts: %t", got, tt.kept)
			}
			if got := get("b.io/x", "alice", "wonder"); got != http.StatusOK {
				t.Errorf("what another upstream allowed: %d", got)
			}
		})
	}
}

// TestUpstreamMovedWhileOffline: an address is compared with that which was last
// asked, however long ago.
func TestUpstreamMovedWhileOffline(t *testing.T) {
	var a addresses
	for i, step := range []struct {
		at    map[string]string
		moved bool
	}{
		{map[string]string{"a.io": "1"}, false},
		{nil, false},
		{map[string]string{"a.io": "1"}, false},
		{map[string]string{}, false},
		{map[string]string{"a.io": "2"}, true},
		{map[string]string{"a.io": "2"}, false},
	} {
		if got := a.change(step.at)["a.io"]; got != step.moved {
			t.Errorf("step %d: moved %t, want %t", i, got, step.moved)
		}
	}
}
