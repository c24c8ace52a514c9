package proxy

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestFaultsAreBounded has transfers fail again and again under a reader that looks,
// and under one that does not.
func TestFaultsAreBounded(t *testing.T) {
	f := &fill{asking: asking{lead: asker{up: &Upstream{Name: "up"}, repo: oci.Repo{Upstream: "up", Name: "a"}}}}
	looks, sleeps := &reader{f: f, who: f.lead, end: 10}, &reader{f: f, who: f.lead, end: 10}
	for i := range 10 * maxFaults {
		want := fmt.Errorf("fault %d", i)
		f.faults.add(fault{Range: oci.Range{Off: 0, End: 10}, by: f.lead, err: want})
		if err := looks.faultLocked(); !errors.Is(err, want) {
			t.Fatalf("who looks: %v, want %v", err, want)
		}
		looks.seen = f.faults.end() // it asked again
	}
	if n := len(f.faults.last); n > maxFaults {
		t.Errorf("%d faults are remembered", n)
	}
	if err := sleeps.faultLocked(); err == nil {
		t.Error("who did not look is not told")
	}
	late := &reader{f: f, who: f.lead, end: 10, seen: f.faults.end()}
	if err := late.faultLocked(); err != nil {
		t.Errorf("who came afterwards: %v", err)
	}
}
