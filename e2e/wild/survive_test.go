package wild

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/soci-snapshotter/ztoc"

	"github.com/sociable/sociable/e2e/link"
)

// TestSurvives: a container that runs lazily goes on reading, and reads what the
// layers' tars hold, whatever becomes of the proxy meanwhile.
func TestSurvives(t *testing.T) {
	p := startProxy(t)
	p.warm(t)
	files := newFiles(t)
	t.Run("kill and restart between reads", func(t *testing.T) {
		c := startReader(t, p)
		c.read(t, files.take(100))
		p.Kill()
		more := files.take(100)
		c.ask(t, more) // of nobody, for two seconds
		time.AfterFunc(2*time.Second, func() {
			if len(c.got()) == 200 {
				t.Error("the container read all without the proxy: nothing is shown")
			}
			if err := p.Start(suite.ctx); err != nil {
				t.Errorf("start sociable again: %v", err)
			}
		})
		c.want(t, more)
		c.end(t, 0)
	})
	t.Run("kill and restart in the middle of a transfer", func(t *testing.T) {
		c := startReader(t, p)
		more := files.take(300)
		c.ask(t, more)
		c.await(t, 20)
		p.Kill()
		<-time.After(2 * time.Second)
		if err := p.Start(suite.ctx); err != nil {
			t.Fatal(err)
		}
		c.want(t, more)
		// The snapshotter repeats no transfer that broke off: the program has an
		// error for that read, and reads again.
		c.end(t, 4)
	})
	t.Run("upstream gone", func(t *testing.T) {
		p.evict(t)
		some := files.take(100)
		first := startReader(t, p)
		first.read(t, some)
		if err := p.up.Down(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := p.up.Up(); err != nil {
				t.Fatal(err)
			}
		}()
		next := startReader(t, p)
		next.read(t, some)
		next.end(t, 0)
		first.end(t, 0)
	})
	t.Run("spans evicted under it", func(t *testing.T) {
		c := startReader(t, p)
		c.read(t, files.take(100))
		p.evict(t)
		p.up.Forget()
		c.read(t, files.take(200))
		if p.up.Bytes() == 0 {
			t.Error("nothing was fetched anew")
		}
		c.end(t, 0)
	})
	t.Run("slow upstream", func(t *testing.T) {
		c := startReader(t, p)
		p.evict(t)
		p.up.Set(link.Options{Latency: time.Second, BytesPerSecond: 1e6}) // a span takes longer than a client waits for an answer to begin
		defer p.up.Set(wire)
		c.read(t, files.take(12))
		c.end(t, 0)
	})
}

// evict leaves nothing of the layers in the store but their zTOCs.
func (p *proxy) evict(t *testing.T) {
	t.Helper()
	for _, l := range suite.image.Layers {
		toc, err := ztoc.Unmarshal(bytes.NewReader(p.zTOC(t, l.Digest)))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range append(toc.SpanDigests, l.Digest) {
			// What is not there is not found: most spans were never read.
			if err := p.Purge(t.Context(), d.String()); err != nil && !strings.Contains(err.Error(), "not") {
				t.Fatal(err)
			}
		}
	}
}

// files deals out files of the image that its start does not read.
type files struct{ lines []string }

// newFiles takes all regular files, in no order of place.
func newFiles(t *testing.T) *files {
	t.Helper()
	all, err := imageFiles()
	if err != nil {
		t.Fatal(err)
	}
	f := &files{}
	for _, line := range all {
		if strings.HasPrefix(line, "sha256:") {
			f.lines = append(f.lines, line)
		}
	}
	slices.Sort(f.lines) // by digest
	return f
}

func (f *files) take(n int) []string {
	some := f.lines[:n]
	f.lines = f.lines[n:]
	return some
}

// reader is a container that reads the files that it is told to.
type reader struct {
	*Container
	stdin  io.WriteCloser
	wanted []string
}

const readProgram = `
import hashlib, sys
for line in sys.stdin:
    path = line.rstrip("\n")
    for attempt in range(5):
        try:
            with open("/" + path, "rb") as f:
                print("sha256:" + hashlib.file_digest(f, "sha256").hexdigest(), path, flush=True)
            break
        except OSError as e:
            if attempt == 4:
                raise
            print("again", e, flush=True)
`

func startReader(t *testing.T, p *proxy) *reader {
	t.Helper()
	n := startNode(t, NodeOptions{V1: true})
	ref := p.Addr + "/up/" + suite.image.Ref()
	if err := n.Pull(t.Context(), Lazy, ref); err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	c, err := n.Start(t.Context(), Lazy, ref, out, "python3", "-c", readProgram)
	if err != nil {
		t.Fatal(err)
	}
	wantLazy(t, n)
	return &reader{Container: c, stdin: in}
}

// ask tells the container to read files.
func (r *reader) ask(t *testing.T, files []string) {
	t.Helper()
	r.wanted = append(r.wanted, files...)
	var paths strings.Builder
	for _, line := range files {
		_, path, _ := strings.Cut(line, " ")
		paths.WriteString(path + "\n")
	}
	if _, err := io.WriteString(r.stdin, paths.String()); err != nil {
		t.Fatal(err)
	}
}

// await waits until the container has read n files.
func (r *reader) await(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); len(r.got()) < n; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%d files of %d after two minutes:\n%s", len(r.got()), n, r.stderr.String())
		}
	}
}

func (r *reader) got() (lines []string) {
	for line := range strings.Lines(r.stdout.String()) {
		if strings.HasPrefix(line, "sha256:") && strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// want waits for the files asked for last and compares all so far.
func (r *reader) want(t *testing.T, files []string) {
	t.Helper()
	r.await(t, len(r.wanted))
	if got := r.got(); !slices.Equal(got, r.wanted) {
		t.Fatalf("%d files read, and not those asked for, or not as they are in the tar", len(got))
	}
	t.Logf("%d more files are those of the tar", len(files))
}

func (r *reader) read(t *testing.T, files []string) {
	t.Helper()
	r.ask(t, files)
	r.want(t, files)
}

// end ends the container, which may have had so many errors.
func (r *reader) end(t *testing.T, errors int) {
	t.Helper()
	if err := r.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := r.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out, "again "); n > errors {
		t.Errorf("the program had %d errors:\n%s", n, out)
	} else if n > 0 {
		t.Logf("the program had %d errors and read again", n)
	}
}
