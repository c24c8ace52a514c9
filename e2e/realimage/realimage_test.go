package realimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPackageTarMergesPackages(t *testing.T) {
	debs := []string{
		makePackage(t, "one", map[string]string{"usr/bin/one": "1", "usr/share/doc/one/README": "read one"}),
		makePackage(t, "two", map[string]string{"usr/bin/two": "2"}),
	}
	fill := func(w io.Writer) (int, error) { return packageTar(t.Context(), w, debs) }
	var layers []Layer
	dir := t.TempDir()
	for range 2 {
		l, err := writeLayer(dir, "both", klauspost, fill)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	if d := cmp.Diff(layers[0], layers[1]); d != "" {
		t.Errorf("the same packages gave two layers:\n%s", d)
	}
	body, err := readLayer(dir, layers[0])
	if err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	want := []string{"usr/", "usr/bin/", "usr/bin/one", "usr/share/", "usr/share/doc/", "usr/share/doc/one/", "usr/share/doc/one/README", "usr/bin/two"}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
	if got := layers[0].Entries; got != len(want) {
		t.Errorf("Entries = %d, want %d", got, len(want))
	}
}

// makePackage builds a Debian package with dpkg-deb.
func makePackage(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files["DEBIAN/control"] = "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: e2e <e2e@example.org>\nDescription: test\n"
	for p, body := range files {
		p = filepath.Join(root, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(body), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(t.TempDir(), name+".deb")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--build", "--root-owner-group", root, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb --build: %v\n%s", err, out)
	}
	return deb
}

// TestBadLayersAreBad reads each bad layer with the standard library and says
// where that fails, so that none is bad in another way than its name says.
func TestBadLayersAreBad(t *testing.T) {
	var good bytes.Buffer
	zw := gzip.NewWriter(&good)
	if err := errors.Join(file(zw, "good", 0), end(zw), zw.Close()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"not-gzip":     "gzip: gzip: invalid header",
		"corrupt-gzip": "stream: gzip: invalid checksum", // stored blocks: nothing but the checksum tells
		"cut-gzip":     "stream: unexpected EOF",
		"gzip-junk":    "stream: gzip: invalid header",
		"not-tar":      "tar: archive/tar: invalid tar header",
		"cut-tar":      "tar: unexpected EOF",
		"tar-checksum": "tar: archive/tar: invalid tar header",
		"tar-size":     "tar: unexpected EOF",
		"pax-huge":     "tar: archive/tar: header field too long",
		"pax-global":   "global header",
		"link-size":    "link of 4096 bytes",
		"empty-block":  "stored block first",
		"encrypted":    "gzip: gzip: invalid header",
	} {
		t.Run(name, func(t *testing.T) {
			var body bytes.Buffer
			for _, b := range badLayers {
				if b.name == name {
					if err := b.write(&body, good.Bytes()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if body.Len() < 10<<20 {
				t.Errorf("the layer has %d bytes, too few to be indexed", body.Len())
			}
			if got := verdict(body.Bytes()); got != want {
				t.Errorf("verdict %q, want %q", got, want)
			}
		})
	}
	if len(badLayers) != 13 {
		t.Errorf("%d bad layers, 13 of them tested", len(badLayers))
	}
}

// verdict is what is wrong with a layer, the outermost first.
func verdict(layer []byte) string {
	zr, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return "gzip: " + err.Error()
	}
	plain, err := io.ReadAll(zr)
	if err != nil {
		return "stream: " + err.Error()
	}
	for tr := tar.NewReader(bytes.NewReader(plain)); ; {
		h, err := tr.Next()
		switch {
		case err == io.EOF:
			if bytes.Equal(layer[10:15], []byte{0, 0, 0, 0xff, 0xff}) {
				return "stored block first"
			}
			return "none"
		case err != nil:
			return "tar: " + err.Error()
		case h.Typeflag == tar.TypeXGlobalHeader:
			return "global header"
		case h.Typeflag == tar.TypeLink && h.Size > 512:
			return "link of 4096 bytes"
		}
		if _, err := io.Copy(io.Discard, tr); err != nil {
			return "tar: " + err.Error()
		}
	}
}

func TestPrepareNamesTheCommandThatFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Prepare(ctx, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("Prepare = %v, want an error that names apt-get", err)
	}
}
