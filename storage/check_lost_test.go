package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestCheckNamesLost damages a blob that was pushed: its bytes are put aside and not
// deleted, whether a read or a check comes across it, and a check names the image
// as long as nobody pushed the blob again.
func TestCheckNamesLost(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprint("read first ", read), func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, dir, nil, storage.Options{})
			layer := r.push(gcApp, "a layer", nil)
			m := &oci.Manifest{Config: &v1.Descriptor{Digest: layer}}
			image := r.push(gcApp, `{"config":{}}`, m)
			file := filepath.Join(dir, "blobs", "sha256", layer.Encoded()[:2], layer.Encoded())
			if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte("a lay"), 0o600)); err != nil {
				t.Fatal(err)
			}
			check := func() (found []string) {
				t.Helper()
				report, err := r.Check(t.Context(), storage.CheckOptions{Repair: true, Found: func(p storage.Problem) {
					found = append(found, fmt.Sprintf("%s %s %t", p.Kind, p.Digest, p.Repaired))
				}})
				if err != nil || report.Repaired != 0 {
					t.Errorf("report %+v, %v; nothing here can repair it", report, err)
				}
				return found
			}
			lost := fmt.Sprintf("lost %s false", layer)
			want := []string{fmt.Sprintf("corrupt %s false", layer), lost}
			if read {
				r.wantAbsent("what is damaged", layer)
				want = []string{lost}
			}
			if got := check(); !slices.Equal(got, want) {
				t.Errorf("found %q, want %q", got, want)
			}
			if got := check(); !slices.Equal(got, []string{lost}) {
				t.Errorf("found again %q, want %q", got, lost)
			}
			if aside, err := os.ReadFile(filepath.Join(dir, "quarantine", "sha256-"+layer.Encoded())); string(aside) != "a lay" {
				t.Errorf("put aside is %q, %v", aside, err)
			}
			if got := r.push(gcApp, "a layer", nil); got != layer {
				t.Fatal(got)
			}
			if got := check(); len(got) > 0 {
				t.Errorf("found %q after it was pushed again", got)
			}
			for _, d := range []digest.Digest{layer, image} {
				r.wantServed("what was pushed", d)
			}
			r.wantUsage()
		})
	}
}

// TestCheckNamesLostManifest loses a manifest that was pushed: each check names it,
// whether or not a tag leads to it, or to anything there.
func TestCheckNamesLostManifest(t *testing.T) {
	for _, tagged := range []bool{true, false} {
		t.Run(fmt.Sprint("tagged ", tagged), func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, dir, nil, storage.Options{})
			layer := r.push(gcApp, "a layer", nil)
			image := r.push(gcApp, `{"config":{}}`, &oci.Manifest{Config: &v1.Descriptor{Digest: layer}})
			err := r.Update(t.Context(), func(tx storage.Tx) error {
				if !tagged {
					return nil
				}
				return tx.PutTag(storage.TagRow{Repo: gcApp, Tag: "v1", Digest: image})
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(r.file(image)); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				lost := 0
				_, err := r.Check(t.Context(), storage.CheckOptions{Repair: i > 0, Found: func(p storage.Problem) {
					if p.Digest == image && (p.Kind == storage.ProblemLost || p.Kind == storage.ProblemMissing) {
						lost++
					}
				}})
				if err != nil || lost == 0 {
					t.Errorf("check %d: named %d times, %v", i, lost, err)
				}
			}
		})
	}
}
