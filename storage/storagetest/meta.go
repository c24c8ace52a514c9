package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Meta runs the contract of storage.Meta. newMeta gives an empty one, and
// cleans up after itself when t ends; to close a Meta twice must be harmless.
func Meta(t *testing.T, newMeta func(t *testing.T) storage.Meta) {
	for name, test := range map[string]func(*testing.T, storage.Meta){
		"rights":              metaRights,
		"blobs":               metaBlobs,
		"touch":               metaTouch,
		"partials":            metaPartials,
		"tags":                metaTags,
		"manifests":           metaManifests,
		"referrers":           metaReferrers,
		"pushed referrers":    metaPushedReferrers,
		"upstream referrers":  metaUpstreamReferrers,
		"named by":            metaNamedBy,
		"tags of":             metaTagsOf,
		"events":              metaEvents,
		"content":             metaContent,
		"content changed":     metaContentChanged,
		"uploads":             metaUploads,
		"layers":              metaLayers,
		"spans":               metaSpans,
		"images":              metaImages,
		"jobs":                metaJobs,
		"pins":                metaPins,
		"blocks":              metaBlocks,
		"conversions":         metaConversions,
		"converted tags":      metaConvertedTags,
		"tasks":               metaTasks,
		"published":           metaPublished,
		"heat":                metaHeat,
		"missing":             metaMissing,
		"seen":                metaSeen,
		"learn":               metaLearn,
		"taken":               metaTaken,
		"imported":            metaImported,
		"all of it":           metaAll,
		"bad keys":            metaBadKeys,
		"own values":          metaOwnValues,
		"reads its writes":    metaReadsItsWrites,
		"rollback":            metaRollback,
		"isolation":           metaIsolation,
		"concurrent updates":  metaConcurrent,
		"failure in a crowd":  metaFailureInCrowd,
		"panic in a crowd":    metaPanicInCrowd,
		"ended context":       metaEnded,
		"context ends queued": metaEndsQueued,
		"close":               metaClose,
	} {
		t.Run(name, func(t *testing.T) { test(t, newMeta(t)) })
	}
}

var (
	repoA = oci.Repo{Upstream: "docker.io", Name: "library/redis"}
	repoB = oci.Repo{Upstream: "docker.io", Name: "library/redis-extra"} // has repoA's name as prefix
	repoC = oci.Repo{Upstream: "docker.io/library", Name: "redis"}       // repoA's text, cut elsewhere
	repoD = oci.Repo{Upstream: "ghcr.io", Name: "a/b"}

	noon = time.Date(2024, 5, 6, 12, 0, 0, 123456789, time.UTC)
)

// dig gives digests that sort as their numbers do not.
func dig(n string) digest.Digest { return digest.FromString(n) }

func dig512(n string) digest.Digest { return digest.SHA512.FromString(n) }

func update(t *testing.T, m storage.Meta, fn func(storage.Tx) error) {
	t.Helper()
	if err := m.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t *testing.T, m storage.Meta, fn func(storage.Tx) error) {
	t.Helper()
	if err := m.View(t.Context(), fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// first is the first error, so that a test can list its calls.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// list collects what an iterator gives.
func list[R any](iterate func(func(R) error) error) ([]R, error) {
	var rows []R
	err := iterate(func(r R) error {
		rows = append(rows, r)
		return nil
	})
	return rows, err
}

// checkList compares what an iterator gives, and that it stops at an error.
func checkList[R any](t *testing.T, what string, iterate func(func(R) error) error, want ...R) {
	t.Helper()
	if len(want) == 0 {
		want = nil
	}
	got, err := list(iterate)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	if len(want) == 0 {
		return
	}
	stop, calls := errors.New("stop"), 0
	err = iterate(func(R) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%s went on after fn's error: %v, %d calls", what, err, calls)
	}
}

// checkRow compares what a getter gives.
func checkRow[R any](t *testing.T, what string, want R) func(R, error) {
	t.Helper()
	return func(got R, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

// checkAbsent wants ErrNotFound from a getter.
func checkAbsent[R any](t *testing.T, what string) func(R, error) {
	t.Helper()
	return func(_ R, err error) {
		t.Helper()
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
}

func metaBadKeys(t *testing.T, m storage.Meta) {
	nul := oci.Repo{Upstream: "docker.io", Name: "a\x00b"}
	calls := map[string]func(storage.Tx) error{
		"right of no digest":    func(tx storage.Tx) error { return tx.PutRight(repoA, "") },
		"right with NUL":        func(tx storage.Tx) error { return tx.PutRight(nul, dig("1")) },
		"tag with NUL":          func(tx storage.Tx) error { return tx.PutTag(storage.TagRow{Repo: repoA, Tag: "a\x00"}) },
		"tag, upstream NUL":     func(tx storage.Tx) error { return tx.PutTag(storage.TagRow{Repo: oci.Repo{Upstream: "\x00"}}) },
		"blob, upper case":      func(tx storage.Tx) error { return tx.PutBlob(blobRow("sha256:AA", storage.KindBlob)) },
		"blob, other algorithm": func(tx storage.Tx) error { return tx.PutBlob(blobRow("sha384:"+"00", storage.KindBlob)) },
		"blob, no kind":         func(tx storage.Tx) error { return tx.PutBlob(blobRow(dig("1"), "")) },
		"blob, unknown kind":    func(tx storage.Tx) error { return tx.PutBlob(blobRow(dig("1"), "other")) },
		"layer, span size":      func(tx storage.Tx) error { return tx.PutLayer(storage.LayerRow{Digest: dig("1"), SpanSize: -1}) },
		"manifest":              func(tx storage.Tx) error { return tx.PutManifest(storage.ManifestRow{Digest: "x"}) },
		"referrer":              func(tx storage.Tx) error { return tx.PutReferrer(storage.ReferrerRow{Subject: dig("1")}) },
		"job":                   func(tx storage.Tx) error { return tx.PutJob(storage.JobRow{}) },
		"image":                 func(tx storage.Tx) error { return tx.PutImage(storage.ImageRow{}) },
		"pin of nothing":        func(tx storage.Tx) error { return tx.PutPin(storage.PinRow{Root: dig("1")}) },
		"pin with NUL":          func(tx storage.Tx) error { return tx.PutPin(storage.PinRow{Reference: "a\x00b"}) },
		"pin holds no digest": func(tx storage.Tx) error {
			return tx.PutPin(storage.PinRow{Reference: "a", Holds: []digest.Digest{"x"}})
		},
		"tag of no digest":         func(tx storage.Tx) error { return tx.PutTag(storage.TagRow{Repo: repoA, Tag: "a"}) },
		"manifest names no digest": func(tx storage.Tx) error { return tx.PutManifest(namingRow("m", "x")) },
		"referrer with NUL": func(tx storage.Tx) error {
			return tx.PutReferrer(storage.ReferrerRow{Repo: nul, Subject: dig("1"), Descriptor: descriptor("a")})
		},
		"upstream's referrers, NUL": func(tx storage.Tx) error {
			return tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: nul, Subject: dig("1")})
		},
		"event for nobody": func(tx storage.Tx) error { return tx.AddEvent("", []byte("x")) },
		"event with NUL":   func(tx storage.Tx) error { return tx.AddEvent("a\x00", []byte("x")) },

		"missing with NUL": func(tx storage.Tx) error {
			return tx.PutMissing(storage.MissingRow{Repo: repoA, Reference: "a\x00"})
		},

		"task of no kind": func(tx storage.Tx) error { return tx.PutTask(storage.TaskRow{Repo: repoA}) },
		"task with NUL": func(tx storage.Tx) error {
			return tx.PutTask(storage.TaskRow{Kind: storage.TaskImage, Repo: repoA, Reference: "a\x00"})
		},
		"conversion": func(tx storage.Tx) error { return tx.PutConversion(storage.ConversionRow{Repo: repoA}) },
		"converted tag": func(tx storage.Tx) error {
			return tx.PutConvertedTag(storage.ConvertedTagRow{Repo: repoA, Tag: "a\x00"})
		},
		"retired": func(tx storage.Tx) error { return tx.PutRetired(storage.RetiredRow{}) },
		"block":   func(tx storage.Tx) error { return tx.PutBlock(storage.BlockRow{}) },
		"heat":    func(tx storage.Tx) error { return tx.PutHeat(storage.HeatRow{Digest: dig("1"), SpanSize: -1}) },
		"partial": func(tx storage.Tx) error { return tx.PutPartial(storage.PartialRow{}) },
	}
	for name, call := range calls {
		if err := m.Update(t.Context(), call); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func metaEnded(t *testing.T, m storage.Meta) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	fn := func(storage.Tx) error { t.Error("fn ran"); return nil }
	if err := m.View(ctx, fn); !errors.Is(err, why) {
		t.Errorf("View with an ended context: %v, want its cause", err)
	}
	if err := m.Update(ctx, fn); !errors.Is(err, why) {
		t.Errorf("Update with an ended context: %v, want its cause", err)
	}
}

func metaClose(t *testing.T, m storage.Meta) {
	reading, goOn := make(chan struct{}), make(chan struct{})
	read := make(chan error, 1)
	go func() {
		read <- m.View(t.Context(), func(tx storage.Tx) error {
			close(reading)
			<-goOn
			_, err := tx.HasRight(repoA, dig("1"))
			return err
		})
	}()
	<-reading
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	close(goOn)
	if err := <-read; err != nil {
		t.Errorf("View during Close: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	fn := func(storage.Tx) error { return nil }
	if m.View(t.Context(), fn) == nil {
		t.Error("View after Close succeeded")
	}
	if m.Update(t.Context(), fn) == nil {
		t.Error("Update after Close succeeded")
	}
}
