package main

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/sociable/sociable/web"
)

// TestPausedJobsAreTold: where clients are busy, the list says so once, and which jobs
// wait for that.
func TestPausedJobsAreTold(t *testing.T) {
	var out bytes.Buffer
	err := printJobs(&out, []web.Job{
		{ID: "catalog:up/**:*", State: web.JobWaiting, Paused: "clients are busy"}, {ID: "layer:l/1", State: web.JobRunning, Size: 4, Done: 1, Paused: "clients are busy"},
		{ID: "convert:up/a:1", State: web.JobWaiting},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`(?m)^catalog:\S+ +waiting, paused `, `(?m)^layer:l/1 +running, 25 %, paused `, `(?m)^convert:\S+ +waiting  `, `(?m)^paused: clients are busy$`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}
