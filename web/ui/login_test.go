package ui

import "testing"

// TestPageHere: who logs in comes back to where they were going, and nowhere else.
func TestPageHere(t *testing.T) {
	for next, want := range map[string]string{
		"/images?sort=size&order=desc": "/images?sort=size&order=desc",
		"/jobs":                        "/jobs",
		"":                             "/",
		"images":                       "/",
		"//evil.example/x":             "/",
		"/\\evil.example":              "/",
		"http://evil.example/":         "/",
		"javascript:alert(1)":          "/",
		"/x\nSet-Cookie: a=b":          "/",
		"/login?next=/login":           "/",
	} {
		if got := pageHere(next); got != want {
			t.Errorf("%q: %q, want %q", next, got, want)
		}
	}
}
