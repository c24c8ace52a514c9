package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server is a real sociable serve that has said where it listens.
type server struct {
	*exec.Cmd
	dir, addr string
	log       chan string // the rest of its log, when it has ended
}

var listening = regexp.MustCompile(`registry=(127\.0\.0\.1:[0-9]+)`)

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	s := &server{dir: t.TempDir(), log: make(chan string, 1)}
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", s.dir}, args...)
	s.Cmd = exec.CommandContext(t.Context(), "sociable", args...) // killed at the test's end, at the latest
	stderr, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	in := bufio.NewScanner(stderr)
	for s.addr == "" && in.Scan() {
		fmt.Fprintln(&said, in.Text())
		if m := listening.FindStringSubmatch(in.Text()); m != nil {
			s.addr = m[1]
		}
	}
	go func() {
		for in.Scan() {
			fmt.Fprintln(&said, in.Text())
		}
		s.log <- said.String()
	}()
	if s.addr == "" {
		t.Fatalf("serve ended before it listened:\n%s", <-s.log)
	}
	return s
}

// end waits for the process and gives how it ended.
func (s *server) end(t *testing.T) *os.ProcessState {
	t.Helper()
	log := <-s.log
	_ = s.Wait() // the state says more
	t.Logf("serve, %s:\n%s", s.ProcessState, log)
	return s.ProcessState
}

func TestServe(t *testing.T) {
	s := startServer(t)
	info, err := os.Stat(filepath.Join(s.dir, adminSocket))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("admin.sock has mode %v, want 0600", info.Mode().Perm())
	}
	resp, err := http.Get("http://" + s.addr + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /v2/ = %d, want 200", resp.StatusCode)
	}
	out, err := exec.Command("sociable", "index", "list", "--json", "--data", s.dir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("index list of an empty store = %s, %v; want []", out, err)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state := s.end(t); state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v, want exit status 0", state)
	}
}

// TestServeFromDeepFolder has a data folder whose socket has no address.
func TestServeFromDeepFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	s := startServer(t, "--data", dir)
	out, err := exec.Command("sociable", "index", "list", "--json", "--data", dir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("index list = %s, %v; want []", out, err)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state := s.end(t); state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v, want exit status 0", state)
	}
}

// TestSecondSignal: whoever does not want to wait for open responses signals
// again.
func TestSecondSignal(t *testing.T) {
	asked, release := make(chan struct{}, 100), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer up.Close()
	defer close(release)
	t.Setenv("SOCIABLE_SHUTDOWN_TIMEOUT", "1h")
	t.Setenv("SOCIABLE_UPSTREAMS_UP_STALL_TIMEOUT", "1h")
	s := startServer(t, "--upstream", "up="+up.URL)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if resp, err := http.Get("http://" + s.addr + "/v2/up/a/b/manifests/latest"); err == nil {
			resp.Body.Close()
		}
	}()
	<-asked
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s.Process.Signal(syscall.SIGTERM) == nil {
			<-tick.C
		}
	}()
	state := s.end(t)
	<-ended
	<-answered
	if ws := state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
		t.Errorf("after two SIGTERM: %v, want it killed by the second", state)
	}
}
