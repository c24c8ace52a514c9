package indexer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// flow gives a layer as it comes, and keeps nothing.
type flow struct {
	fetchLog
	mu    sync.Mutex
	opens int
	tries []io.Reader // of each time it is opened
}

func (f *flow) OpenBlob(context.Context, oci.Repo, v1.Descriptor) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opens == len(f.tries) {
		return nil, errors.New("asked for once too often")
	}
	f.opens++
	return io.NopCloser(f.tries[f.opens-1]), nil
}

// opened is how often a layer was asked for.
func (f *flow) opened() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opens
}

// TestFetchedWhileItIsRead: a layer that a job has to fetch is indexed from the
// bytes as they come, though it is never in the store; and again from the first
// where they broke off.
func TestFetchedWhileItIsRead(t *testing.T) {
	a := newLayer(t, 1)
	broken := errors.New("it broke off")
	for _, tt := range []struct {
		name  string
		tries []io.Reader
	}{
		{"at once", []io.Reader{bytes.NewReader(a)}},
		{"broke off", []io.Reader{io.MultiReader(bytes.NewReader(a[:len(a)/2]), failing{broken}), bytes.NewReader(a)}},
		{"broke off at the end", []io.Reader{io.MultiReader(bytes.NewReader(a), failing{broken}), bytes.NewReader(a)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &flow{tries: tt.tries}
				w := start(t, t.TempDir(), Options{Rules: everything, Fetch: f}, nil)
				img := newImage(t, "img", a)
				w.manifest(redis, img)
				w.settle()
				job := storage.JobRow{Layer: oci.Layer{Descriptor: img.manifest.Layers[0], Repo: redis}, SpanSize: everything[0].SpanSize, Fetch: true}
				w.check("put job", w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.PutJob(job) }))
				w.x.m.queued.Inc()
				wake(w.x.toLease)
				for range tt.tries[1:] {
					w.settle()
					if jobs := w.jobs(); len(jobs) != 1 || jobs[0].Attempts != 1 || len(w.referrers(img.digest)) > 0 {
						t.Fatalf("after it broke off: jobs %+v, %d referrers", jobs, len(w.referrers(img.digest)))
					}
					pause(t.Context(), backoff(1))
				}
				w.settle()
				w.wantIndex(img, a)
				if jobs := w.jobs(); len(jobs) > 0 || f.opened() != len(tt.tries) {
					t.Errorf("jobs left: %+v; opened %d times, want %d", jobs, f.opened(), len(tt.tries))
				}
			})
		})
	}
}
