package web

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestJobs: what waits is listed by an id that retries and cancels it.
func TestJobs(t *testing.T) {
	s := storagetest.NewStore(t)
	now := time.Now().UTC()
	repo := oci.Repo{Upstream: "docker.io", Name: "library/redis"}
	layer := digest.FromString("layer")
	task := storage.TaskRow{Kind: storage.TaskImage, Repo: repo, Reference: "7", Created: now, Failed: true, Attempts: 3, LastError: "gone"}
	job := storage.JobRow{
		Layer: oci.Layer{Repo: repo, Descriptor: v1.Descriptor{Digest: layer, Size: 5}}, SpanSize: 4, Created: now,
		Attempts: 1, NotBefore: now.Add(time.Hour),
	}
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(tx.PutTask(task), tx.PutJob(job), tx.PutTask(storage.TaskRow{
			Kind: storage.TaskConvert, Repo: repo, Reference: layer.String(), Created: now.Add(time.Second),
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := func() map[string]string {
		list, err := Jobs(t.Context(), s, now)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, x := range list {
			m[x.ID] = x.State
		}
		return m
	}
	image, wait, convert := "image:docker.io/library/redis:7", "layer:"+layer.String()+"/4", "convert:docker.io/library/redis@"+layer.String()
	if got := ids(); got[image] != JobFailed || got[wait] != JobPutOff || got[convert] != JobWaiting || len(got) != 3 {
		t.Errorf("%v", got)
	}
	for _, id := range []string{"", wait} {
		if n, err := RetryJob(t.Context(), s, id); n != 1 || err != nil {
			t.Errorf("retry %q: %d, %v", id, n, err)
		}
	}
	if got := ids(); got[image] != JobWaiting || got[wait] != JobWaiting {
		t.Errorf("after retries: %v", got)
	}
	if n, err := CancelJob(t.Context(), s, convert); n != 1 || err != nil {
		t.Errorf("cancel: %d, %v", n, err)
	}
	if n, err := CancelJob(t.Context(), s, ""); n != 0 || err != nil {
		t.Errorf("cancel what failed: %d, %v", n, err)
	}
	if n, err := CancelJob(t.Context(), s, wait); n != 1 || err != nil {
		t.Errorf("cancel: %d, %v", n, err)
	}
	if got := ids(); got[convert] != JobCancelled || got[wait] != JobCancelled || got[image] != JobWaiting {
		t.Errorf("after cancelling: %v", got)
	}
	if n, err := RetryJob(t.Context(), s, convert); n != 1 || err != nil {
		t.Errorf("retry what was cancelled: %d, %v", n, err)
	}
	if got := ids(); got[convert] != JobWaiting {
		t.Errorf("after retrying: %v", got)
	}
	if _, err := ClearJob(t.Context(), s, convert); !errors.Is(err, errWaits) {
		t.Errorf("forget what waits: %v", err)
	}
	if n, err := ClearJob(t.Context(), s, wait); n != 1 || err != nil {
		t.Errorf("forget what was cancelled: %d, %v", n, err)
	}
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.PutTask(task) }); err != nil {
		t.Fatal(err)
	}
	if n, err := ClearJob(t.Context(), s, ""); n != 1 || err != nil {
		t.Errorf("forget what failed: %d, %v", n, err)
	}
	if got := ids(); got[convert] != JobWaiting || len(got) != 1 {
		t.Errorf("after forgetting: %v", got)
	}
	if _, err := CancelJob(t.Context(), s, "layer:none"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("cancel what there is not: %v", err)
	}
}

// reads is an Asker at work on one layer.
type reads struct {
	Asker
	layer digest.Digest
}

func (x reads) Progress(layer digest.Digest, spanSize int64) int64 {
	if layer == x.layer && spanSize == 4 {
		return 3
	}
	return 0
}

// TestRunningJobs: of the layers that wait, those that are being read are told apart.
func TestRunningJobs(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	now := time.Now()
	job := func(d digest.Digest, spanSize int64, cancelled bool) Job {
		return layerJob(&storage.JobRow{Layer: oci.Layer{Descriptor: v1.Descriptor{Digest: d, Size: 5}}, SpanSize: spanSize, Cancelled: cancelled}, now)
	}
	list := []Job{job(a, 4, false), job(a, 8, false), job(b, 4, false), job(a, 4, true), {Kind: "image", ID: "image:x/4"}}
	markRunning(list, reads{layer: a})
	for i, want := range []string{JobRunning, JobWaiting, JobWaiting, JobCancelled, ""} {
		if list[i].State != want || (want == JobRunning) != (list[i].Done == 3) {
			t.Errorf("%d: %s, %d bytes, want %s", i, list[i].State, list[i].Done, want)
		}
	}
}

// TestPausedJobs: while clients are busy it is said of what would be done, but for
// conversions, why it is not.
func TestPausedJobs(t *testing.T) {
	list := []Job{
		{Kind: kindLayer, State: JobWaiting}, {Kind: kindLayer, State: JobRunning}, {Kind: "catalog", State: JobWaiting},
		{Kind: "convert", State: JobWaiting}, {Kind: kindLayer, State: JobFailed}, {Kind: "image", State: JobPutOff},
	}
	markPaused(list, "busy")
	for i, want := range []string{"busy", "busy", "busy", "", "", ""} {
		if list[i].Paused != want {
			t.Errorf("%d: paused %q, want %q", i, list[i].Paused, want)
		}
	}
}
