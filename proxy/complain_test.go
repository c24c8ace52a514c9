package proxy

import (
	"testing"
	"time"
)

// TestComplaints tells each reason at once, and then with how many there were.
func TestComplaints(t *testing.T) {
	var c complaints
	start := time.Unix(1_700_000_000, 0)
	for i, x := range []struct {
		reason string
		after  time.Duration
		times  int
		tell   bool
	}{
		{"full", 0, 1, true},
		{"full", time.Second, 1, false},
		{"failed", time.Second, 1, true},
		{"full", complainEvery - 1, 2, false},
		{"full", complainEvery, 3, true},
		{"full", complainEvery + 1, 1, false},
		{"failed", 10 * complainEvery, 1, true},
	} {
		if times, tell := c.note(x.reason, start.Add(x.after)); times != x.times || tell != x.tell {
			t.Errorf("%d: %s after %v: %d, %t, want %d, %t", i, x.reason, x.after, times, tell, x.times, x.tell)
		}
	}
}
