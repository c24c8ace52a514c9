package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal of 100 columns. What is written to its end can be
// waited for.
type terminal struct {
	*os.File // the end that a program has

	mu   sync.Mutex
	more *sync.Cond
	text string
	over bool
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{}
	if x.File, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	x.more = sync.NewCond(&x.mu)
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			x.mu.Lock()
			x.text += string(buf[:n])
			x.over = err != nil
			x.mu.Unlock()
			x.more.Broadcast()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = x.Close() // a test has closed it, or failed
		<-read
		_ = master.Close() // only read from
	})
	return x
}

// await waits until all of these words stand in what was written.
func (x *terminal) await(words ...string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		missing := false
		for _, w := range words {
			missing = missing || !strings.Contains(x.text, w)
		}
		if !missing || x.over {
			return !missing
		}
		x.more.Wait()
	}
}

// all is what was written, once nobody has it open any more.
func (x *terminal) all() string {
	_ = x.Close() // read to its end
	x.mu.Lock()
	defer x.mu.Unlock()
	for !x.over {
		x.more.Wait()
	}
	return x.text
}

// shown checks that lines were drawn over each other, none wider than the
// terminal, and taken away.
func (x *terminal) shown(t *testing.T) {
	t.Helper()
	text := x.all()
	if !strings.HasSuffix(text, "\r\x1b[K") || strings.Contains(text, "\n") {
		t.Errorf("not taken away: %q", text)
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\x1b[K", ""), "\r") {
		if n := len([]rune(line)); n >= 100 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

// slowRegistry holds the second half of each blob of more than 20,000 bytes back
// until go on is closed.
func slowRegistry(t *testing.T, goOn <-chan struct{}) *httptest.Server {
	whole, err := url.Parse(layoutRegistry(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	to := httputil.NewSingleHostReverseProxy(whole)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			to.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		to.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		body := rec.Body.Bytes()
		if len(body) > 20_000 {
			_, _ = w.Write(body[:len(body)/2]) // whoever asked sees what is missing
			_ = http.NewResponseController(w).Flush()
			<-goOn
			body = body[len(body)/2:]
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// TestProgressOfImages looks at index create and warm in a terminal, with an
// upstream that is slow.
func TestProgressOfImages(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"index create": {[]string{"index", "create", "--min-layer-size", "0"}, []string{"fetching up/single:1", "%", "KiB of "}},
		"warm":         {[]string{"warm"}, []string{"0 of 1 image, pulling up/single:1", "%", "KiB of "}},
	} {
		t.Run(name, func(t *testing.T) {
			goOn := make(chan struct{})
			once := sync.OnceFunc(func() { close(goOn) })
			defer once()
			s := startServer(t, "--upstream", "up="+slowRegistry(t, goOn).URL)
			x := newTerminal(t)
			var out bytes.Buffer
			done := make(chan int, 1)
			go func() { done <- run(append(tc.args, "--data", s.dir, "up/single:1"), &out, x.File) }()
			// Without the words, it would wait for what waits for it.
			late := time.AfterFunc(2*time.Minute, func() { _ = x.Close() })
			if !x.await(tc.want...) {
				t.Errorf("want %q in %q", tc.want, x.text)
			}
			late.Stop()
			once()
			if code := <-done; code != exitOK {
				t.Errorf("exit %d: %s", code, &out)
			}
			x.shown(t)
			if strings.ContainsAny(out.String(), "\r\x1b") {
				t.Errorf("control characters in the result: %q", &out)
			}
		})
	}
}

// TestProgressOfFiles looks at the commands that read one layer, here out of a
// pipe, in a terminal and elsewhere.
func TestProgressOfFiles(t *testing.T) {
	layer := readFile(t, inputs+"all-types.tar.gz")
	for name, args := range map[string][]string{
		"build":  {"ztoc", "build", "PIPE"},
		"verify": {"ztoc", "verify", "PIPE", "../../ztoc/testdata/ztocs/all-types.tar.gz.4096.ztoc"},
	} {
		t.Run(name, func(t *testing.T) {
			pipe := filepath.Join(t.TempDir(), "layer.tar.gz")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range args {
				args[i] = strings.Replace(args[i], "PIPE", pipe, 1)
			}
			x := newTerminal(t)
			var out bytes.Buffer
			done := make(chan int, 1)
			go func() { done <- run(args, &out, x.File) }()
			w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if _, err := w.Write(layer[:len(layer)/2]); err != nil {
				t.Fatal(err)
			}
			if !x.await("reading layer.tar.gz", "KiB") {
				t.Errorf("%q", x.text)
			}
			if _, err := w.Write(layer[len(layer)/2:]); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if code := <-done; code != exitOK {
				t.Errorf("exit %d: %s", code, &out)
			}
			x.shown(t)
		})
	}
}
