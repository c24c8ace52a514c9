package storage_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// running has r's background work run, in a bubble of fake time, until the
// function that it returns is called.
func (r *rig) running() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-ran; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	}
}

// pass lets fake time pass, and all that is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// updates counts writes of rows.
func updates(f *storagetest.Faults) func() int {
	var mu sync.Mutex
	n := 0
	f.Hook(func(s storagetest.Step) error {
		mu.Lock()
		defer mu.Unlock()
		if s.Op == "update" {
			n++
		}
		return nil
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func TestRunCommitsInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		faults := storagetest.NewFaults(dir)
		r := newRig(t, dir, faults, storage.Options{})
		written := updates(faults)
		stop := r.running()
		var ds []digest.Digest
		for _, name := range []string{"a", "b", "c", "d"} {
			ds = append(ds, r.mustPut(kb(name, 5), storage.KindSpan, storage.Cached))
		}
		if n := written(); n != 0 {
			t.Errorf("%d writes of rows before the batch, want 0", n)
		}
		pass(time.Second)
		if n := written(); n != 1 {
			t.Errorf("%d writes of rows for the batch, want 1", n)
		}
		for _, d := range ds {
			if _, err := r.row(d); err != nil {
				t.Errorf("row after the batch: %v", err)
			}
		}
		last := r.mustPut(kb("last", 5), storage.KindSpan, storage.Cached)
		stop()
		if _, err := r.row(last); err != nil {
			t.Errorf("row of what was pending when Run ended: %v", err)
		}
		r.wantUsage()
	})
}

func TestRunFilesAccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		faults := storagetest.NewFaults(dir)
		r := newRig(t, dir, faults, storage.Options{})
		d := r.mustPut(kb("a", 5), storage.KindBlob, storage.Durable)
		written := updates(faults)
		stop := r.running()
		pass(2 * storage.AccessEvery)
		for range 100 {
			r.wantServed("a blob", d)
		}
		read := time.Now()
		if n := written(); n != 0 {
			t.Errorf("%d writes of rows for reads, want 0", n)
		}
		pass(storage.AccessEvery)
		if n := written(); n != 1 {
			t.Errorf("%d writes of rows for all reads, want 1", n)
		}
		if row, err := r.row(d); err != nil || !row.Accessed.Equal(read) {
			t.Errorf("the row says it was read at %v (%v), want %v", row.Accessed, err, read)
		}
		pass(10 * storage.AccessEvery)
		if n := written(); n != 1 {
			t.Errorf("%d writes of rows without a read, want 0", n-1)
		}
		r.wantServed("a blob", d)
		read = time.Now()
		stop()
		if row, err := r.row(d); err != nil || !row.Accessed.Equal(read) {
			t.Errorf("at the end the row says it was read at %v (%v), want %v", row.Accessed, err, read)
		}
	})
}

func TestRunSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, dir, nil, storage.Options{})
		kept := r.mustPut(kb("kept", 5), storage.KindBlob, storage.Durable)
		r.mustPut(kb("pending", 5), storage.KindBlob, storage.Cached)
		p := r.openPartial(digest.FromString("x"))
		writeAt(t, p, kb("x", 5), ranges(0, 5000)...)
		file := filepath.Join(dir, "partial", digest.FromString("x").String())
		r = r.reopen(storage.Options{}) // a crash
		closeIt(t, p)
		if err := os.WriteFile(file, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
		stop := r.running()
		defer stop()
		pass(storage.SweepGrace - time.Second)
		n := 0
		err := r.disk.Walk(t.Context(), func(digest.Digest, func() (int64, error)) error { n++; return nil })
		if err != nil || n != 2 {
			t.Errorf("%d files (%v) before the grace period ends, want 2", n, err)
		}
		pass(2 * time.Second)
		r.wantNoGarbage()
		r.wantServed("what has a row", kept)
		r.wantUsage()
	})
}

func TestRunEvictsAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, dir, nil, storage.Options{})
		old := r.mustPut(kb("old", 50), storage.KindBlob, storage.Durable)
		time.Sleep(time.Hour)
		young := r.mustPut(kb("young", 50), storage.KindBlob, storage.Durable)
		r = r.reopen(storage.Options{MaxBytes: 60_000}) // less than before
		stop := r.running()
		defer stop()
		r.wantAbsent("the oldest", old)
		r.wantServed("the youngest", young)
		r.wantUsage()
	})
}

// TestRunWithoutRows can't write rows for a while: what came is served, and
// filed once it is possible again.
func TestRunWithoutRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		faults := storagetest.NewFaults(dir)
		var log lines
		reg := prometheus.NewRegistry()
		r := newRig(t, dir, faults, storage.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: reg})
		stop := r.running()
		defer stop()
		faults.Hook(failOp("update", "", syscall.ENOSPC))
		d := r.mustPut(kb("a", 5), storage.KindBlob, storage.Cached)
		pass(time.Minute)
		r.wantServed("a blob that could not be filed", d)
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "no space left") {
			t.Errorf("the log says nothing of it:\n%s", log.String())
		}
		if n := value(t, reg, "sociable_storage_errors_total", "row"); n == 0 {
			t.Error("no error was counted")
		}
		faults.Hook(nil)
		pass(2 * storage.CommitRetry)
		if _, err := r.row(d); err != nil {
			t.Errorf("row, the fault being over: %v", err)
		}
		r.wantUsage()
	})
}

// TestRunLosesUnsynced can't sync: what can't be trusted is served no more.
func TestRunLosesUnsynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		faults := storagetest.NewFaults(dir)
		reg := prometheus.NewRegistry()
		r := newRig(t, dir, faults, storage.Options{Registerer: reg})
		stop := r.running()
		defer stop()
		faults.Hook(failOp("sync", "blobs/", syscall.EIO))
		d := r.mustPut(kb("a", 5), storage.KindBlob, storage.Cached)
		r.wantServed("a pending blob", d)
		pass(time.Second)
		faults.Hook(nil)
		r.wantAbsent("a blob whose sync failed", d)
		if n := value(t, reg, "sociable_storage_errors_total", "sync"); n != 1 {
			t.Errorf("%v errors were counted, want 1", n)
		}
		r.mustPut(kb("a", 5), storage.KindBlob, storage.Cached)
		pass(time.Second)
		r.wantServed("the same blob, come again", d)
		r.wantUsage()
		r.wantNoGarbage()
	})
}

func TestRunNeedsRows(t *testing.T) {
	dir := t.TempDir()
	faults := storagetest.NewFaults(dir)
	r := newRig(t, dir, faults, storage.Options{})
	faults.CrashAt(1)
	if err := r.Put(t.Context(), storage.BlobRow{Digest: digest.FromString("x"), Kind: storage.KindBlob}, []byte("x"), nil); err == nil {
		t.Error("Put succeeded without rows")
	}
	if err := r.Run(t.Context()); !errors.Is(err, storagetest.ErrCrashed) {
		t.Errorf("Run: %v, want what hinders it", err)
	}
}

func TestMetrics(t *testing.T) {
	now := &clock{t: noon}
	reg := prometheus.NewRegistry()
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 100_000, Registerer: reg, Now: now.now})
	r.mustPut(kb("manifest", 10), storage.KindManifest, storage.Durable)
	r.mustPut(kb("old", 50), storage.KindSpan, storage.Durable)
	now.forward(time.Hour)
	p := r.openPartial(digest.FromString("x"))
	writeAt(t, p, kb("x", 40), ranges(0, 5000)...)
	r.mustPut(kb("new", 60), storage.KindBlob, storage.Cached)
	for _, c := range []struct {
		name, label string
		want        float64
	}{
		{"sociable_storage_bytes", "manifest", 10_000},
		{"sociable_storage_bytes", "span", 0},
		{"sociable_storage_bytes", "blob", 60_000},
		{"sociable_storage_bytes", "partial", 5_000},
		{"sociable_storage_blobs", "blob", 1},
		{"sociable_storage_limit_bytes", "", 100_000},
		{"sociable_storage_evictions_total", "span", 1},
		{"sociable_storage_evictions_total", "blob", 0},
		{"sociable_storage_evicted_bytes_total", "span", 50_000},
		{"sociable_storage_commit_duration_seconds", "", 2},
		{"sociable_storage_errors_total", "sweep", 0},
	} {
		if got := value(t, reg, c.name, c.label); got != c.want {
			t.Errorf("%s{%s} is %v, want %v", c.name, c.label, got, c.want)
		}
	}
	closeIt(t, p)
}

// value is a gauge's or counter's, or how many a histogram saw.
func value(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatalf("Gather: %v", err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			switch f.GetType() {
			case dto.MetricType_GAUGE:
				return m.GetGauge().GetValue()
			case dto.MetricType_COUNTER:
				return m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				return float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Errorf("there is no metric %s{%s}", name, label)
	return -1
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
