package ui

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestJobsPageIsSmall: long names and errors make a page with fewer rows, not one
// that is too large; each state has its part of them.
func TestJobsPageIsSmall(t *testing.T) {
	r := newRig(t, nil)
	const each = 150
	err := r.store.Update(t.Context(), func(tx storage.Tx) error {
		for i := range 4 * each {
			row := storage.TaskRow{
				Kind: storage.TaskConvert, Repo: oci.Repo{Upstream: "docker.io", Name: fmt.Sprintf("%s/%03d", strings.Repeat("long/", 40), i)},
				Reference: digest.FromString("x").String(), Attempts: 7, LastError: strings.Repeat(`"<why>" `, 38), Created: time.Now(),
			}
			switch i % 4 {
			case 0:
				row.Failed = true
			case 1:
				row.NotBefore = time.Now().Add(time.Hour)
			case 2:
				row.Cancelled = true
			}
			if err := tx.PutTask(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := r.do("GET", "/jobs", "")
	if n := w.Body.Len(); w.Code != 200 || n > 100_000 || n < 50_000 {
		t.Errorf("status %d, %d bytes", w.Code, n)
	}
	var j Jobs
	if err := json.Unmarshal(r.do("GET", "/api/v1/jobs", "").Body.Bytes(), &j); err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{}
	for i := range j.Jobs {
		shown[j.Jobs[i].State]++
	}
	if j.Failed != each+1 || j.PutOff != each || j.Waiting != each || j.Cancelled != each || len(j.Jobs)+j.More != 4*each+1 {
		t.Errorf("%+v, and %d shown, %d more", j.Queue, len(j.Jobs), j.More)
	}
	for _, s := range shownStates {
		if shown[s] == 0 {
			t.Errorf("none that is %s is shown: %v", s, shown)
		}
	}
}
