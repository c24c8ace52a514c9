package wild

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/realimage"
)

// hashProgram prints every file of the container that its image brought: digest
// or "-> target", and path.
const hashProgram = `
import hashlib, os, sys
for top, dirs, files in os.walk("/"):
    if top == "/":
        dirs[:] = [d for d in dirs if d not in ("dev", "proc", "run", "sys")]
    for name in files + [d for d in dirs if os.path.islink(os.path.join(top, d))]:
        path = os.path.join(top, name)
        if os.path.islink(path):
            print("->", os.readlink(path), path[1:])
            continue
        with open(path, "rb") as f:
            print("sha256:" + hashlib.file_digest(f, "sha256").hexdigest(), path[1:])
`

// imageFiles are the files of the image.
var imageFiles = sync.OnceValues(func() ([]string, error) { return filesOf(suite.image.Layers) })

// filesOf are the files of layers as hashProgram prints them, from their tars,
// read by the standard library; one line each, sorted.
func filesOf(layers []realimage.Layer) ([]string, error) {
	files := map[string]string{}
	for _, l := range layers {
		f, err := suite.set.Open(l.Digest)
		if err != nil {
			return nil, err
		}
		zr, err := gzip.NewReader(f)
		if err == nil {
			err = addFiles(files, tar.NewReader(zr))
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Name, err)
		}
	}
	for name := range files { // mounted over
		if top, _, _ := strings.Cut(name, "/"); slices.Contains([]string{"dev", "proc", "run", "sys"}, top) {
			delete(files, name)
		}
	}
	return slices.Sorted(maps.Values(files)), nil
}

func addFiles(files map[string]string, tr *tar.Reader) error {
	content := map[string]string{} // of this layer's files, for hard links
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "/")
		switch h.Typeflag {
		case tar.TypeReg:
			d, err := digest.FromReader(tr)
			if err != nil {
				return err
			}
			content[name] = d.String()
		case tar.TypeLink:
			content[name] = content[strings.TrimPrefix(h.Linkname, "/")]
		case tar.TypeSymlink:
			content[name] = "-> " + h.Linkname
		default:
			continue
		}
		files[name] = content[name] + " " + name
	}
}

// compareFiles compares what hashProgram printed with the image's tars.
func compareFiles(t *testing.T, printed string) {
	t.Helper()
	want, err := imageFiles()
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, printed, want)
}

func compareLines(t *testing.T, printed string, want []string) {
	t.Helper()
	got := slices.Sorted(strings.SplitSeq(strings.TrimSuffix(printed, "\n"), "\n"))
	if slices.Equal(got, want) {
		t.Logf("%d files have the digests of the tar's", len(got))
		return
	}
	t.Errorf("the container has %d files, want %d", len(got), len(want))
	shown := 0
	for _, side := range []struct {
		what       string
		in, others []string
	}{{"only in the container", got, want}, {"only in the tars", want, got}} {
		for _, line := range side.in {
			if _, ok := slices.BinarySearch(side.others, line); !ok && shown < 20 {
				t.Logf("%s: %s", side.what, line)
				shown++
			}
		}
	}
}
