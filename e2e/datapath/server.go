package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
)

// kind is what stands between the client and the upstream registry.
type kind string

const (
	direct       kind = "direct" // nothing but the link
	sociable     kind = "sociable"
	nginx        kind = "nginx"
	distribution kind = "distribution"
)

// everyone is in the order in which they are measured.
var everyone = []kind{direct, sociable, nginx, distribution}

// slow is the link of every row that doesn't say otherwise; wide is for getting
// something in place.
var (
	slow = link.Options{Latency: 20 * time.Millisecond, BytesPerSecond: 50e6}
	wide = link.Options{}
)

// server is one of the kinds at work, over an empty store and behind a link of
// its own.
type server struct {
	kind kind
	addr string // host:port
	link *link.Link
	dir  string
	http *http.Client

	proc  *harness.Process // nil: direct
	proxy *harness.Proxy   // nil: not sociable
}

func (s *server) blob(repo string, d digest.Digest) string {
	return s.repo(repo) + "/blobs/" + d.String()
}

func (s *server) manifest(im image, ref string) string {
	return s.repo(im.Repo) + "/manifests/" + ref
}

func (s *server) repo(name string) string {
	if s.kind == sociable {
		return "/v2/lab/" + name
	}
	return "/v2/" + name
}

// conditions are what differs between rows.
type conditions struct {
	link   link.Options
	tagTTL time.Duration // 0: as the server is by itself
}

// start runs a server. stop it even if the row failed.
func (b *bench) start(ctx context.Context, k kind, c conditions) (*server, error) {
	l, err := link.Start(b.upstream, c.link)
	if err != nil {
		return nil, err
	}
	s := &server{kind: k, addr: l.Addr(), link: l, http: newClient()}
	if s.dir, err = os.MkdirTemp(b.work, string(k)+"-"); err == nil {
		switch k {
		case direct:
		case sociable:
			err = b.startSociable(s, c)
		case nginx:
			err = b.startNginx(ctx, s, c)
		case distribution:
			err = b.startDistribution(ctx, s)
		}
	}
	if err != nil {
		b.stop(s)
		return nil, fmt.Errorf("start %s: %w", k, err)
	}
	// Some introduce themselves to the upstream when they start, others at the
	// first request: that is over, and what is cold is the blob.
	if _, fault := b.getTag(ctx, s, b.catalog.Hello); fault != "" {
		b.stop(s)
		return nil, fmt.Errorf("first request to %s: %s", k, fault)
	}
	l.Forget()
	return s, nil
}

// stop ends the server, whatever it is doing, and removes what it stored.
func (b *bench) stop(s *server) {
	s.http.CloseIdleConnections()
	if s.kind == sociable && s.proc != nil {
		b.notePeak(s)
	}
	_ = s.link.Down() // first, so that nothing is waited for
	if s.proc != nil {
		if err := s.proc.Stop(); err != nil {
			b.log("%s did not stop well: %v", s.kind, err)
		}
		if text := tail(s.proc.Log()); b.verbose && text != "" {
			b.log("%s wrote:\n%s", s.kind, text)
		}
	}
	_ = s.link.Close()
	if err := os.RemoveAll(s.dir); err != nil {
		b.log("%v", err)
	}
}

// notePeak remembers the most memory that a sociable had in this suite.
func (b *bench) notePeak(s *server) {
	n, err := s.proc.PeakRSS()
	if err != nil {
		b.log("memory of sociable: %v", err)
	}
	b.at.Peak = max(b.at.Peak, n)
}

func (b *bench) startSociable(s *server, c conditions) error {
	x, err := harness.NewProxy(&harness.Programs{Sociable: b.sociable}, filepath.Join(s.dir, "data"), []string{"lab=" + s.link.URL()})
	if err != nil {
		return err
	}
	x.Env = []string{"SOCIABLE_LOG_LEVEL=warn"} // the others write no line for each request either
	if c.tagTTL > 0 {
		x.Env = append(x.Env, "SOCIABLE_UPSTREAMS_LAB_TAG_TTL="+c.tagTTL.String())
	}
	// The process outlives the row's time, and is stopped by stop.
	if err := x.Start(b.life); err != nil {
		return err
	}
	s.addr, s.proc, s.proxy = x.Addr, x.Process, x
	return nil
}

// await polls until the server answers.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		a := s.get(ctx, "/v2/", whole, nil)
		if a.err == nil && a.status == http.StatusOK {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.proc.Exited():
			return fmt.Errorf("it ended:\n%s", tail(s.proc.Log()))
		case <-ctx.Done():
			return fmt.Errorf("no answer at %s: %v\n%s", s.addr, a.err, tail(s.proc.Log()))
		}
	}
}

// settle waits until no transfer from the upstream has been under way for a
// moment, at most for d: some go on after the client has left.
func (s *server) settle(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for quiet, n := time.Now(), -1; time.Since(quiet) < 100*time.Millisecond; {
		requests := s.link.Requests()
		for _, r := range requests {
			if !r.Done {
				quiet = time.Now()
			}
		}
		if len(requests) != n {
			quiet, n = time.Now(), len(requests)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tail is enough of a log to see what went wrong.
func tail(s string) string {
	const enough = 4 << 10
	if len(s) > enough {
		return "…" + s[len(s)-enough:]
	}
	return s
}
