package main

import (
	"bytes"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestIndexCreateServerStops: who waits for an index when the server is stopped is
// told that, and what to do.
func TestIndexCreateServerStops(t *testing.T) {
	goOn := make(chan struct{})
	once := sync.OnceFunc(func() { close(goOn) })
	defer once()
	s := startServer(t, "--upstream", "up="+slowRegistry(t, goOn).URL)
	x := newTerminal(t)
	var out bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run([]string{"index", "create", "--min-layer-size", "0", "--data", s.dir, "up/single:1"}, &out, x.File)
	}()
	if !x.await("fetching up/single:1") {
		t.Errorf("%q", x.text)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != exitFailed || out.Len() > 0 {
		t.Errorf("exit %d, %q", code, &out)
	}
	once()
	s.end(t)
	const want = "\x1b[Ksociable: the server stops before the index is there: run the command again when it is back\r\n"
	if got := x.all(); !strings.HasSuffix(got, want) {
		t.Errorf("%q", got)
	}
}
