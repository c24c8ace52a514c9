package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// rewrite makes an unsigned bundle of what change leaves of another one.
func rewrite(t *testing.T, file string, change func(st *bundle.Statement, bodies map[digest.Digest][]byte)) string {
	t.Helper()
	r, err := bundle.NewReader(bufio.NewReader(bytes.NewReader(readFile(t, file))))
	if err != nil {
		t.Fatal(err)
	}
	st, _ := r.Statement()
	bodies := map[digest.Digest][]byte{}
	for {
		b, body, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			bodies[b.Digest], err = io.ReadAll(body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(st, bodies)
	plan, err := bundle.NewPlan(st.Images, st.Blobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "rewritten.tar")
	var buf bytes.Buffer
	err = plan.Write(&buf, func(b bundle.Blob) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(bodies[b.Digest])), nil
	})
	if err == nil {
		err = os.WriteFile(out, buf.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// respan puts another file of spans in the place of an image's only one.
func respan(t *testing.T, st *bundle.Statement, bodies map[digest.Digest][]byte, l bundle.LazyLayer, body []byte) {
	t.Helper()
	old := st.Images[0].Lazy[0].Spans
	l.Spans = digest.FromBytes(body)
	st.Images[0].Lazy = []bundle.LazyLayer{l}
	bodies[l.Spans] = body
	st.Blobs = slices.DeleteFunc(st.Blobs, func(b bundle.Blob) bool { return b.Digest == old })
	st.Blobs = append(st.Blobs, bundle.Blob{Digest: l.Spans, Size: int64(len(body)), Made: true})
}

// spansFile writes a file of spans; layer has the bytes that they are said to be.
func spansFile(t *testing.T, front *bundle.Spans, table ztoc.SpanTable, layer []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := bundle.WriteSpans(&out, front, table, bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLazyRefused takes no spans that nobody trusted vouches for, or that are
// others than their zTOC says, whoever vouches for them.
func TestLazyRefused(t *testing.T) {
	s := newShelf(t)
	x := pushLazy(t, s, "acme/app:1", 1)
	dir := t.TempDir()
	file := filepath.Join(dir, "lazy.tar")
	private, public := keys(t, dir, "ops")
	_, other := keys(t, dir, "other")
	table, _ := exportLazy(t, s, &x, "acme/app:1", file, private)
	signed := readFile(t, file)
	same := func(*bundle.Statement, map[digest.Digest][]byte) {}
	front := func(st *bundle.Statement) bundle.Spans {
		return bundle.Spans{Layer: x.layer.Digest, Size: x.layer.Size, ZTOC: st.Images[0].Lazy[0].ZTOC, Head: x.body[:512], Runs: []bundle.SpanRun{{First: 1, Last: 2}, {First: 5, Last: 5}}}
	}
	spoil := func(after string) []byte { // a byte behind some text, to one that may stand there
		b := bytes.Clone(signed)
		at := bytes.Index(b, []byte(after)) + len(after) + 3
		if b[at] != '1' {
			b[at] = '1'
		} else {
			b[at] = '2'
		}
		return b
	}
	for name, tt := range map[string]struct {
		body []byte
		keys []string
		args []string
		want string
	}{
		"not signed":             {body: readFile(t, rewrite(t, file, same)), keys: []string{public}, want: "it is not signed"},
		"no key is trusted":      {body: signed, want: "signed with a key that is not among them, sha256:"},
		"another key is":         {body: signed, keys: []string{other}, want: "signed with a key that is not among them, sha256:"},
		"another signature":      {body: spoil(`"ed25519":"`), keys: []string{public}, args: []string{"--trust-spans"}, want: "not by the key that it names"},
		"another count of spans": {body: bytes.Replace(signed, []byte(`"have":3`), []byte(`"have":2`), 1), keys: []string{public}, want: "signs sha256:"},
		"another byte of a span": {body: spoil("sociable spans 1\n{\"layer\":"), keys: []string{public}, want: "the bytes of sha256:"},
		"other bytes as a span": {args: []string{"--trust-spans"}, want: "the bytes of span 1 of " + x.layer.Digest.String(),
			body: readFile(t, rewrite(t, file, func(st *bundle.Statement, bodies map[digest.Digest][]byte) {
				f, forged := front(st), bytes.Clone(x.body)
				forged[table.Span(1).Off+600] ^= 1
				respan(t, st, bodies, st.Images[0].Lazy[0], spansFile(t, &f, table, forged))
			}))},
		"spans of another layer": {args: []string{"--trust-spans"}, want: "the bundle states",
			body: readFile(t, rewrite(t, file, func(st *bundle.Statement, bodies map[digest.Digest][]byte) {
				f := front(st)
				f.Layer = digest.FromString("another")
				respan(t, st, bodies, st.Images[0].Lazy[0], spansFile(t, &f, table, x.body))
			}))},
	} {
		t.Run(name, func(t *testing.T) {
			bad, to := filepath.Join(t.TempDir(), "bad.tar"), filepath.Join(t.TempDir(), "to")
			if err := os.WriteFile(bad, tt.body, 0o600); err != nil {
				t.Fatal(err)
			}
			conf := trusting(t, tt.keys...)
			out, errs, code := runSociable(t, "", append([]string{"import", bad, "--data", to, "--config", conf}, tt.args...)...)
			if code != 1 || !strings.Contains(out+errs, tt.want) {
				t.Errorf("exit code %d, want %q:\n%s%s", code, tt.want, out, errs)
			}
			srv := startServer(t, "--config", conf, "--data", to)
			if status, _ := ask(t, srv.addr, x.repo+"/blobs/"+x.layer.Digest.String(), "0-1"); status != http.StatusNotFound {
				t.Errorf("the layer is read: %d", status)
			}
		})
	}
	t.Run("an operator's word", func(t *testing.T) {
		to, conf := filepath.Join(t.TempDir(), "to"), deadConfig(t)
		must(t, "import", rewrite(t, file, same), "--trust-spans", "--data", to, "--config", conf)
		srv := startServer(t, "--config", conf, "--data", to)
		x.startsFrom(t, srv.addr, table)
	})
}

// TestLazyHostile has a bundle claim what another repository has: its layer, and
// the digests of its spans.
func TestLazyHostile(t *testing.T) {
	s := newShelf(t)
	secret, evil := pushLazy(t, s, "acme/secret:1", 1), pushLazy(t, s, "acme/evil:1", 50)
	dir := t.TempDir()
	secretFile, evilFile, whole := filepath.Join(dir, "s.tar"), filepath.Join(dir, "e.tar"), filepath.Join(dir, "w.tar")
	private, public := keys(t, dir, "ops")
	table, _ := exportLazy(t, s, &secret, "acme/secret:1", secretFile, private)
	exportLazy(t, s, &evil, "acme/evil:1", evilFile, "")
	must(t, "export", "up/acme/secret:1", "-p", "linux/amd64", "-o", whole, "--data", filepath.Join(dir, "from"), "--config", s.config)
	// No bytes come with it: only the other layer's digest, or those of its spans.
	var secretZTOC []byte
	var z bundle.LazyLayer
	rewrite(t, secretFile, func(st *bundle.Statement, bodies map[digest.Digest][]byte) {
		z = st.Images[0].Lazy[0]
		secretZTOC = bodies[z.ZTOC]
	})
	claim := func(layer digest.Digest) string {
		return rewrite(t, evilFile, func(st *bundle.Statement, bodies map[digest.Digest][]byte) {
			f := bundle.Spans{Layer: layer, Size: z.Size, ZTOC: z.ZTOC, Head: make([]byte, 512), Runs: []bundle.SpanRun{}}
			l := bundle.LazyLayer{Layer: layer, Size: z.Size, ZTOC: z.ZTOC, Of: z.Of}
			img := &st.Images[0]
			img.Blobs = append(img.Blobs, layer)
			img.IndexBlobs = append(img.IndexBlobs, z.ZTOC)
			bodies[z.ZTOC] = secretZTOC
			st.Blobs = append(st.Blobs, bundle.Blob{Digest: z.ZTOC, Size: int64(len(secretZTOC)), Made: true})
			if layer != evil.layer.Digest { // its own is said to have come before
				img.LeftOut = append(img.LeftOut, evil.layer.Digest)
			}
			respan(t, st, bodies, l, spansFile(t, &f, table, nil))
		})
	}
	s.Close()
	for _, have := range []string{secretFile, whole} {
		to, conf := filepath.Join(t.TempDir(), "to"), trusting(t, public)
		must(t, "import", have, "--data", to, "--config", conf)
		out, errs, code := runSociable(t, "", "import", claim(secret.layer.Digest), "--data", to, "--config", conf)
		if code != 1 || !strings.Contains(errs, "it is not signed") {
			t.Errorf("a claim to another's layer that nobody signed: exit code %d\n%s%s", code, out, errs)
		}
		// Even where an operator trusts it, the digests of spans lead nowhere else.
		must(t, "import", claim(evil.layer.Digest), "--trust-spans", "--data", to, "--config", conf)
		srv := startServer(t, "--config", conf, "--data", to)
		secret.read(t, srv.addr, span(table, 1), true)
		if status, body := ask(t, srv.addr, evil.repo+"/blobs/"+secret.layer.Digest.String(), "60000-60100"); status != http.StatusNotFound {
			t.Errorf("another repository's layer: %d, %d bytes", status, len(body))
		}
		for i := range table.Len() {
			r := span(table, i)
			r.Off += 600
			evil.read(t, srv.addr, r, false)
		}
	}
}

// TestLazyImportKilled ends imports and the server that they go through in the
// middle, and repeats them.
func TestLazyImportKilled(t *testing.T) {
	s := newShelf(t)
	x := pushLazy(t, s, "acme/app:1", 1)
	dir := t.TempDir()
	file, to := filepath.Join(dir, "lazy.tar"), filepath.Join(dir, "to")
	private, public := keys(t, dir, "ops")
	table, _ := exportLazy(t, s, &x, "acme/app:1", file, private)
	s.Close()
	body, conf := readFile(t, file), trusting(t, public)
	for _, at := range []int{20, 60, 95} { // percent
		srv := startServer(t, "--config", conf, "--data", to)
		cmd := exec.CommandContext(t.Context(), "sociable", "import", "-", "--data", to)
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(body[:len(body)*at/100]); err != nil { // it has read most of that, and waits for more
			t.Fatal(err)
		}
		if err := srv.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = in.Close() // it may have gone
		if cmd.Wait() == nil {
			t.Error("the import was cut, and succeeded")
		}
		srv.end(t)
	}
	srv := startServer(t, "--config", conf, "--data", to)
	if status, _ := ask(t, srv.addr, x.repo+"/blobs/"+x.layer.Digest.String(), "0-1"); status != http.StatusNotFound {
		t.Errorf("a layer of which not all has come is read: %d", status)
	}
	must(t, "import", file, "--data", to)
	x.startsFrom(t, srv.addr, table)
	x.read(t, srv.addr, oci.Range{Off: 0, End: 512}, true)
	must(t, "fsck", "--data", to)
}
