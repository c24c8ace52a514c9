package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestCollectTells: whatever a hosted repository loses as garbage is told of.
func TestCollectTells(t *testing.T) {
	r, dropped := newPurgeRegistry(t)
	r.image(gcApp, "image", "1", "")
	r.pass(100 * time.Hour)
	rule := storage.Retention{Repositories: []string{"local/app"}, KeepTags: []string{"none"}, Untagged: time.Hour}
	r.collect(r.collector(rule))
	var told []string
	for _, x := range *dropped {
		told = append(told, x.Repo.String()+":"+x.Tag+" "+x.Target.MediaType)
	}
	slices.Sort(told)
	want := []string{
		"local/app: application/octet-stream", "local/app: " + v1.MediaTypeImageManifest, "local/app:1 " + v1.MediaTypeImageManifest,
	}
	if !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}

// TestCollectAfter frees what a deleted image had before its grace has passed.
func TestCollectAfter(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	image, layer := r.image(gcApp, "image", "", ""), digest.FromString("layer of image")
	r.remove(gcApp, image)
	r.pass(time.Second)
	c := r.collector()
	_, err := c.Collect(t.Context(), false, nil)
	r.must(err)
	if _, err := r.Stat(t.Context(), layer); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	report, err := c.CollectAfter(t.Context(), 0, false, nil)
	r.must(err)
	if want := int64(len("image") + len("layer of image")); report.Freed != want {
		t.Errorf("%+v, want %d bytes", report, want)
	}
	r.check(gcApp, false, layer)
}

// TestCollectOrphans: bytes without a row and files of uploads that nobody knows
// go, whenever the crash was; those of an upload that goes on stay.
func TestCollectOrphans(t *testing.T) {
	dir := t.TempDir()
	r := &registry{t: t}
	r.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	r.Store = storagetest.Start(t, dir, storage.Options{Now: r.clock})
	kept := r.image(gcApp, "image", "1", "")
	u, err := r.NewUploadBy(t.Context(), "", 0, gcApp, digest.SHA256)
	r.must(err)
	_, err = u.Write(t.Context(), []byte("half"))
	r.must(errors.Join(err, u.Checkpoint(t.Context())))
	u.Release()
	body := "bytes without a row"
	hex := digest.FromString(body).Encoded()
	blob, upload := filepath.Join(dir, "blobs", "sha256", hex[:2], hex), filepath.Join(dir, "partial", "upload-0123")
	r.must(os.MkdirAll(filepath.Dir(blob), 0o700))
	r.must(errors.Join(os.WriteFile(blob, []byte(body), 0o600), os.WriteFile(upload, nil, 0o600)))
	_, report := r.collect(r.collector())
	if report.Orphans != 2 || report.Freed != int64(len(body)) {
		t.Errorf("%+v, want two orphans of %d bytes", report, len(body))
	}
	for _, path := range []string{blob, upload} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	r.check(gcApp, true, kept)
	u, err = r.OpenUpload(t.Context(), gcApp, u.ID())
	r.must(err)
	r.must(u.Cancel(t.Context()))
	u.Release()
}

// TestKeepLastBesideNames: what is kept by its name is not one of the last.
func TestKeepLastBesideNames(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	for _, tag := range []string{"1", "2", "v1", "v2"} {
		r.image(gcApp, "image "+tag, tag, "")
		r.pass(24 * time.Hour)
	}
	r.collect(r.collector(storage.Retention{Repositories: []string{"local/app"}, KeepLast: 1, KeepTags: []string{"v*"}}))
	var tags []string
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		tags = nil
		return tx.Tags(gcApp, "", func(row storage.TagRow) error { tags = append(tags, row.Tag); return nil })
	}))
	if want := []string{"2", "v1", "v2"}; !slices.Equal(tags, want) {
		t.Errorf("%q stay, want %q", tags, want)
	}
}
