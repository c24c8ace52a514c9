package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/web"
)

// teach has it be known in a store that no server has open how the image whose
// manifest is not the index itself starts.
func teach(t *testing.T, data string) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(data, metaFile), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx storage.Tx) error {
		var images []storage.ImageRow
		err := tx.Images(func(img storage.ImageRow) error {
			images = append(images, img)
			return nil
		})
		now := time.Now().UTC().Round(0)
		for _, img := range images {
			row := storage.LearnRow{Manifest: img.Manifest.Digest, Starts: 2, Set: now, Looked: now, Confirmed: now}
			for _, l := range img.Layers {
				if l.SpanSize > 0 {
					row.Learnt = append(row.Learnt, storage.LearntLayer{Layer: l.Descriptor.Digest, SpanSize: l.SpanSize, Spans: []storage.LearntSpan{
						{Span: 0, Read: now.Unix()}, {Span: 2, Read: now.Unix()}, {Span: 3, Read: now.Unix()},
					}})
				}
			}
			if err == nil {
				err = tx.PutLearn(row)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.end(t)
}

// TestLearntCrossesTheGap: what was learnt is offered after a restart, crosses in
// a bundle, and is forgotten or switched off where that is wanted.
func TestLearntCrossesTheGap(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/app:1", "-p", "linux/amd64", "--data", srv.dir)
	if out := must(t, "learn", "show", "up/acme/app:1", "--data", srv.dir); !strings.Contains(out, "no start of it was seen yet") {
		t.Errorf("before any start:\n%s", out)
	}
	srv.stop(t)
	teach(t, srv.dir)

	outside := startServer(t, "--config", s.config, "--data", srv.dir)
	var here []web.Learned
	await(t, "what was learnt is offered", func() bool {
		here = decodeJSON[[]web.Learned](t, must(t, "learn", "show", "up/acme/app:1", "--json", "--data", srv.dir))
		return len(here) == 1 && here[0].Index != ""
	})
	if out := must(t, "learn", "show", "up/acme/app:1", "--data", srv.dir); !strings.Contains(out, "0,2-3 of ") || !strings.Contains(out, "2 counted") {
		t.Errorf("shown:\n%s", out)
	}
	if out := must(t, "index", "info", "up/acme/app:1", "--data", srv.dir); !strings.Contains(out, here[0].Index.String()) {
		t.Errorf("index info does not name %s:\n%s", here[0].Index, out)
	}
	bundle := filepath.Join(t.TempDir(), "b.tar")
	must(t, "export", "up/acme/app:1", "-p", "linux/amd64", "-o", bundle, "--data", srv.dir)

	inside := startServer(t, "--config", s.config)
	if out := must(t, "import", bundle, "--data", inside.dir); !strings.Contains(out, "same") {
		t.Errorf("import says:\n%s", out)
	}
	there := decodeJSON[[]web.Learned](t, must(t, "learn", "show", "up/acme/app:1", "--json", "--data", inside.dir))
	if len(there) != 1 || there[0].Index != here[0].Index || !there[0].Imported || there[0].Bytes != here[0].Bytes {
		t.Errorf("after the import %+v, want the index %s", there, here[0].Index)
	}

	if out := must(t, "learn", "reset", "up/acme/app:1", "--data", srv.dir); !strings.Contains(out, ": forgotten") {
		t.Errorf("reset:\n%s", out)
	}
	if x := decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", srv.dir)); len(x) != 1 || x[0].Learned != "" || x[0].Index == "" {
		t.Errorf("after a reset: %+v", x)
	}
	outside.stop(t)

	t.Setenv("SOCIABLE_LEARN_ENABLED", "false")
	inside.stop(t)
	startServer(t, "--config", s.config, "--data", inside.dir)
	await(t, "the plain index alone", func() bool {
		x := decodeJSON[[]IndexInfo](t, must(t, "index", "list", "--json", "--data", inside.dir))
		return len(x) == 1 && x[0].Learned == "" && x[0].Index != ""
	})
	if _, errs := program(t, exitFailed, "learn", "show", "up/none:1", "--data", inside.dir); !strings.Contains(errs, "up/none") {
		t.Errorf("an image that is not known: %s", errs)
	}
}

// TestLearntPlatform: what was learnt is shown with the platform that it is for, of an
// image for several as of one for that alone.
func TestLearntPlatform(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	index := s.push(t, "acme/several:1", 2, "arm64") // which nobody pulls
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(list.Manifests[0].Digest)
	if err == nil {
		err = remote.Write(s.ref(t, "acme/single:1"), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	must(t, "warm", "up/acme/app:1", "-p", "linux/amd64", "--data", srv.dir)
	must(t, "warm", "up/acme/single:1", "-p", "linux/arm64", "--data", srv.dir)
	srv.stop(t)
	teach(t, srv.dir)
	for name, want := range map[string]string{"up/acme/app:1": "linux/amd64", "up/acme/single:1": "linux/arm64"} {
		out := must(t, "learn", "show", name, "--data", srv.dir)
		if !regexp.MustCompile(`(?m)^platform +` + want + `$`).MatchString(out) {
			t.Errorf("%s: no platform %s in\n%s", name, want, out)
		}
	}
}
