// Package e2e tests sociable as it is used: the real program between real
// registries and real clients, over images of real files. See README.md.
package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// suite is what all tests share. Only the registries' content, which nobody
// changes after TestMain, outlives a run.
var suite struct {
	*harness.Suite
	ctx     context.Context // the life of processes
	cleanup []func()        // run at the end
}

// suiteTimeout is more than any run takes.
const suiteTimeout = 15 * time.Minute

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), suiteTimeout)
	defer cancel()
	time.Local = time.UTC // the official builder writes times in the zone of the machine
	s, err := harness.NewSuite(ctx, ".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	suite.Suite, suite.ctx = s, ctx
	defer func() {
		for _, f := range suite.cleanup {
			f()
		}
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
	}()
	return m.Run()
}

// upstream is the name of the upstream in most tests.
const upstream = "up"

// proxy is a sociable of one test, with a link between it and its upstream.
type proxy struct {
	*harness.Proxy
	link *link.Link
}

// startProxy runs sociable over an empty store, with the suite's registry as
// upstream "up" behind a link.
func startProxy(t *testing.T, opt link.Options, args ...string) *proxy {
	t.Helper()
	return startProxyTo(t, suite.Registry.URL(), opt, args...)
}

// startProxyTo is startProxy with another upstream.
func startProxyTo(t *testing.T, url string, opt link.Options, args ...string) *proxy {
	t.Helper()
	return startProxyWith(t, url, opt, nil, args...)
}

// setting is the variable that overrides a key of the upstream "up".
func setting(key, value string) string {
	return "SOCIABLE_UPSTREAMS_" + strings.ToUpper(upstream+"_"+key) + "=" + value
}

// startProxyWith is startProxyTo with environment variables.
func startProxyWith(t *testing.T, url string, opt link.Options, env []string, args ...string) *proxy {
	t.Helper()
	l := startLink(t, url, opt)
	x, err := harness.NewProxy(suite.Programs, t.TempDir(), []string{upstream + "=" + l.URL()}, args...)
	if err != nil {
		t.Fatal(err)
	}
	x.Env = env
	p := &proxy{x, l}
	p.start(t)
	t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if m := crashMark.FindString(x.Log()); m != "" {
			t.Errorf("sociable's log holds %q", m)
		}
		if t.Failed() {
			t.Logf("sociable's log:\n%s", digestLog(x.Log()))
		}
	})
	return p
}

// crashMark is what the Go runtime and its race detector write, and no log line.
var crashMark = regexp.MustCompile(`(?m)^(panic: .*|fatal error: .*|WARNING: DATA RACE)$`)

func startLink(t *testing.T, url string, opt link.Options) *link.Link {
	t.Helper()
	l, err := link.Start(url, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the link: %v", err)
		}
	})
	return l
}

// start runs the proxy, again after its end.
func (p *proxy) start(t *testing.T) {
	t.Helper()
	if err := p.Start(suite.ctx); err != nil {
		t.Fatal(err)
	}
}

// ref is how clients name an image through the proxy.
func (p *proxy) ref(i realimage.Image) string { return p.Addr + "/" + upstream + "/" + i.Ref() }

// digestLog is what is worth reading of a log: its last lines, and all before
// them that are no plain requests.
func digestLog(log string) string {
	const last = 20
	lines := strings.SplitAfter(log, "\n")
	var out strings.Builder
	for n, line := range lines {
		if n >= len(lines)-last || !strings.Contains(line, "msg=request ") || !strings.Contains(line, " status=2") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// image gives one of the set's images.
func image(t *testing.T, name string) realimage.Image {
	t.Helper()
	i, ok := suite.Set.Images[name]
	if !ok {
		t.Fatalf("there is no image %q", name)
	}
	return i
}

// eventually polls until done, at most for d.
func eventually(t *testing.T, d time.Duration, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}
