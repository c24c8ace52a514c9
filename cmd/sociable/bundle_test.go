package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// deadConfig is that of a cluster without a network: its upstream "up" is never
// reached.
func deadConfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	text := "listen: 127.0.0.1:0\nadmin: {listen: \"\"}\noffline: true\nupstreams: {up: {url: \"http://127.0.0.1:9\"}}\n" +
		"index: {rules: [{repositories: [\"**\"], min_layer_size: 10000, span_size: 64KiB}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

type importAnswer struct {
	Images   []imported `json:"images"`
	Blobs    int        `json:"blobs"`
	Bytes    int64      `json:"bytes"`
	HadBlobs int        `json:"had_blobs"`
}

// pullFrom pulls all of an image as crane does, and checks every digest.
func pullFrom(t *testing.T, addr, word string, platform *ggcr.Platform) {
	t.Helper()
	ref, err := name.ParseReference(addr + "/" + word)
	if err != nil {
		t.Fatal(err)
	}
	var opts []remote.Option
	if platform != nil {
		opts = append(opts, remote.WithPlatform(*platform))
		img, err := remote.Image(ref, opts...)
		if err == nil {
			err = validate.Image(img, validate.Fast)
		}
		if err != nil {
			t.Errorf("pull %s from %s: %v", word, addr, err)
		}
		return
	}
	idx, err := remote.Index(ref)
	if err == nil {
		err = validate.Index(idx, validate.Fast)
	}
	if err != nil {
		t.Errorf("pull %s from %s: %v", word, addr, err)
	}
}

// TestBundle moves images from one store to another that has no network.
func TestBundle(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/app:1", 1, "amd64", "arm64")
	s.push(t, "acme/tool:1", 5, "amd64")
	root, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	file, again := filepath.Join(dir, "b.tar"), filepath.Join(dir, "again.tar")
	list := filepath.Join(dir, "images.txt")
	if err := os.WriteFile(list, []byte("up/acme/tool:1\nup/acme/app:1\nup/acme/app@"+root.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "export", "-f", list, "-p", "all", "-o", file, "--data", from, "--config", s.config)
	must(t, "export", "up/acme/app@"+root.String(), "up/acme/app:1", "up/acme/tool:1", "-p", "all", "-o", again, "--no-pull", "--data", from, "--config", s.config)
	one, two := readFile(t, file), readFile(t, again)
	if !bytes.Equal(one, two) {
		t.Errorf("two bundles of the same images differ: %d and %d bytes", len(one), len(two))
	}
	exportElsewhere(t, one, "--no-pull", "-f", list, "-p", "all", "--data", from, "--config", s.config)
	s.Close() // the upstream is gone, and the first store is not asked again

	srv := startServer(t, "--config", deadConfig(t), "--data", to)
	srv.dir = to
	got := decodeJSON[importAnswer](t, must(t, "import", file, "--data", to, "--json"))
	if len(got.Images) != 3 || got.HadBlobs != 0 {
		t.Errorf("%+v", got)
	}
	for _, r := range got.Images {
		if r.Error != "" || !r.Pinned || r.Index != "same" {
			t.Errorf("%+v", r)
		}
	}
	pullFrom(t, srv.addr, "up/acme/app:1", nil)
	pullFrom(t, srv.addr, "up/acme/app@"+root.String(), nil)
	pullFrom(t, srv.addr, "up/acme/tool:1", nil)
	// again, and it changes nothing
	second := decodeJSON[importAnswer](t, must(t, "import", file, "--data", to, "--json"))
	if second.Blobs != got.Blobs || second.HadBlobs == 0 || second.Images[0].Before != "" {
		t.Errorf("second import: %+v", second)
	}
	if out := must(t, "fsck", "--data", to); !strings.Contains(out, "checked") {
		t.Error(out)
	}
	if err := srv.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if st := srv.end(t); st.ExitCode() != 0 {
		t.Errorf("server: %s", st)
	}
}

// exportElsewhere exports into a pipe and through a link, and sees that the list
// of images and an earlier bundle are not written over.
func exportElsewhere(t *testing.T, want []byte, args ...string) {
	t.Helper()
	dir := t.TempDir()
	fifo, private, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "private"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(private, nil, 0o600), os.Symlink("private", link)); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte, 1)
	go func() { // ends when the command has closed the pipe
		p, _ := os.ReadFile(fifo)
		read <- p
	}()
	args = append([]string{"export"}, args...)
	must(t, append(args, "-o", fifo)...)
	if got := <-read; !bytes.Equal(got, want) {
		t.Errorf("in a pipe: %d bytes, want %d", len(got), len(want))
	}
	must(t, append(args, "-o", link)...)
	if !bytes.Equal(readFile(t, private), want) || mode(t, private) != 0o600 {
		t.Errorf("behind a link: other bytes, or mode %s", mode(t, private))
	}
	for _, earlier := range []string{private, link} {
		_, errs, code := runSociable(t, "", append(args, "--since", private, "-o", earlier)...)
		if code != exitFailed || !strings.Contains(errs, "is the input") {
			t.Errorf("over an earlier bundle: exit code %d, %s", code, errs)
		}
	}
	if _, errs, code := runSociable(t, "", append(args, "-o", fifo, "--part-size", "1MiB")...); code != exitUsage || !strings.Contains(errs, "is no file") {
		t.Errorf("parts in a pipe: exit code %d, %s", code, errs)
	}
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBundleInParts cuts a bundle, loses a part, and takes one platform only.
func TestBundleInParts(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	dir := t.TempDir()
	from, to, file := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "b.tar")
	s.push(t, "acme/big:1", 20, "amd64")
	out := must(t, "export", "up/acme/app:1", "up/acme/big:1", "-p", "linux/amd64", "-o", file, "--part-size", "1MiB", "--data", from, "--config", s.config)
	if !strings.Contains(out, "not in it: up/acme/app:1: image for linux/arm64") || !strings.Contains(out, "b.tar.001, "+file+".002") {
		t.Errorf("export says:\n%s", out)
	}
	dead := deadConfig(t)
	_, errs, code := runSociable(t, "", "import", file+".001", "--data", to, "--config", dead)
	if code != 1 || !strings.Contains(errs, "it ends early: is a part missing") {
		t.Errorf("import of a part: exit code %d, %s", code, errs)
	}
	out = must(t, "import", file, "--data", to, "--config", dead) // without a server, and after what has come
	if !strings.Contains(out, "same") {
		t.Errorf("import says:\n%s", out)
	}
	srv := startServer(t, "--config", dead, "--data", to)
	pullFrom(t, srv.addr, "up/acme/app:1", &ggcr.Platform{OS: "linux", Architecture: "amd64"})
	pullFrom(t, srv.addr, "up/acme/big:1", &ggcr.Platform{OS: "linux", Architecture: "amd64"})
}

// TestBundleSince leaves out what an earlier bundle has for the same repository,
// and does not give a repository what only another one was shown to have.
func TestBundleSince(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	first, next := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	flags := []string{"-p", "linux/amd64", "--data", from, "--config", s.config}
	must(t, append([]string{"export", "up/acme/app:1", "-o", first}, flags...)...)
	s.push(t, "acme/app:2", 1, "amd64") // the same layers
	s.push(t, "acme/other:1", 1, "amd64")
	out := must(t, append([]string{"export", "up/acme/app:2", "-o", next, "--since", first}, flags...)...)
	if !strings.Contains(out, "left out: ") || len(readFile(t, next)) > len(readFile(t, first))/2 {
		t.Errorf("the second bundle has %d bytes, the first %d:\n%s", len(readFile(t, next)), len(readFile(t, first)), out)
	}
	other := filepath.Join(dir, "3.tar")
	if out := must(t, append([]string{"export", "up/acme/other:1", "-o", other, "--since", first}, flags...)...); strings.Contains(out, "left out: ") {
		t.Errorf("another repository's blobs were left out:\n%s", out)
	}
	for name, cut := range map[string]int{"in a blob": 2, "in its statement": 1000} {
		short := filepath.Join(dir, "short.tar")
		if err := os.WriteFile(short, readFile(t, first)[:len(readFile(t, first))/cut], 0o600); err != nil {
			t.Fatal(err)
		}
		never := filepath.Join(dir, "never.tar")
		_, errs, code := runSociable(t, "", append([]string{"export", "up/acme/app:2", "-o", never, "--since", short}, flags...)...)
		if _, err := os.Stat(never); err == nil || code != 1 || !strings.Contains(errs, "--since "+short+": not a sound bundle: it ends early") {
			t.Errorf("since a bundle that is cut off %s: exit code %d\n%s", name, code, errs)
		}
	}
	dead := deadConfig(t)
	out, _, code := runSociable(t, "", "import", next, "--data", to, "--config", dead)
	if code != 1 || !strings.Contains(out, "import the earlier bundle first") {
		t.Errorf("the second before the first: exit code %d\n%s", code, out)
	}
	must(t, "import", first, "--data", to, "--config", dead)
	must(t, "import", next, "--data", to, "--config", dead)
	srv := startServer(t, "--config", dead, "--data", to)
	pullFrom(t, srv.addr, "up/acme/app:2", &ggcr.Platform{OS: "linux", Architecture: "amd64"})
}

// TestImportKilled ends imports, and the server they go through, at several
// places, and repeats them.
func TestImportKilled(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64", "arm64")
	dir := t.TempDir()
	from, to, file := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "b.tar")
	must(t, "export", "up/acme/app:1", "-p", "all", "-o", file, "--data", from, "--config", s.config)
	body, dead := readFile(t, file), deadConfig(t)
	for _, at := range []int{3, 2} { // a third, a half
		srv := startServer(t, "--config", dead, "--data", to)
		cmd := exec.CommandContext(t.Context(), "sociable", "import", "-", "--data", to)
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		var said bytes.Buffer
		cmd.Stderr = &said
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(body[:len(body)/at]); err != nil { // it has read most of that, and waits for more
			t.Fatal(err)
		}
		if err := srv.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = in.Close() // it may have gone
		if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "sociable: ") {
			t.Errorf("the import: %v, %s", err, said.String())
		}
		srv.end(t)
	}
	srv := startServer(t, "--config", dead, "--data", to)
	if out := must(t, "import", file, "--data", to); !strings.Contains(out, "same") {
		t.Errorf("import says:\n%s", out)
	}
	pullFrom(t, srv.addr, "up/acme/app:1", nil)
	must(t, "fsck", "--data", to)
}

// TestImportRefuses takes nothing that was tampered with.
func TestImportRefuses(t *testing.T) {
	s := newShelf(t)
	s.push(t, "acme/app:1", 1, "amd64")
	dir := t.TempDir()
	from, file := filepath.Join(dir, "from"), filepath.Join(dir, "b.tar")
	must(t, "export", "up/acme/app:1", "-p", "linux/amd64", "-o", file, "--data", from, "--config", s.config)
	body := readFile(t, file)
	spoilt := bytes.Clone(body)
	spoilt[len(body)*2/3] ^= 1 // in the layer
	renamed := bytes.ReplaceAll(body, []byte("acme/app"), []byte("acme/bpp"))
	elsewhere := bytes.ReplaceAll(body, []byte("up/acme/app"), []byte("xx/acme/app"))
	for name, tt := range map[string]struct {
		body  []byte
		want  string
		store bool // one is made: it could have been a bundle
	}{
		"a byte of a layer": {spoilt, "the bytes of sha256:", true},
		"cut":               {body[:len(body)/2], "it ends early", true},
		"nothing":           {nil, "was it made by sociable export?", false},
		"index.json only":   {bytes.Replace(body, []byte("acme/app"), []byte("acme/bpp"), 1), "index.json is not the one", false},
		"renamed":           {renamed, "index.json is not the one", false},
		"unknown upstream":  {elsewhere, "index.json is not the one", false},
	} {
		t.Run(name, func(t *testing.T) {
			to, bad := filepath.Join(t.TempDir(), "to"), filepath.Join(t.TempDir(), "bad.tar")
			if err := os.WriteFile(bad, tt.body, 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, code := runSociable(t, "", "import", bad, "--data", to, "--config", deadConfig(t))
			if code != 1 || !strings.Contains(out+errs, tt.want) {
				t.Errorf("exit code %d, want %q:\n%s%s", code, tt.want, out, errs)
			}
			if _, err := os.Stat(to); (err == nil) != tt.store {
				t.Errorf("there is a store: %v, want %t", err, tt.store)
			}
			if !tt.store {
				return
			}
			if list := must(t, "index", "list", "--json", "--data", to); strings.TrimSpace(list) != "[]" {
				t.Errorf("images are known: %s", list)
			}
		})
	}
}
