// Package doctor walks the way that a lazily loading client goes, from the name
// of a registry's host to one span of a layer, and says in words what is wrong and
// how to mend it; and it reads the configuration of a node's containerd and
// soci-snapshotter. What clients send and accept is that of soci-snapshotter
// v0.15.0 and containerd 2.
//
// It asks over the network as any client does, and knows nothing of stores.
package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Verdict is how one step went.
type Verdict string

// The verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // it works, but not for everybody, or not as well as it could
	Fail Verdict = "fail" // clients get no further than this
)

// Finding is what one step found.
type Finding struct {
	Step    string        `json:"step"` // one word: dns, connect, tls …
	Verdict Verdict       `json:"verdict"`
	What    string        `json:"what"`              // what was seen
	Mend    string        `json:"mend,omitempty"`    // what to do about it; "" where all is well
	Took    time.Duration `json:"took_ns,omitempty"` // 0: nothing was waited for
}

// Options are what Walk needs. Only Reference is required.
type Options struct {
	Reference string         // an image as clients name it, the registry's host first; or the host alone
	Platform  string         // that it has to be for: linux/amd64; "": any, and of an image for several linux and this machine's
	Keychain  authn.Keychain // credentials for the host; nil: none
	TLS       *tls.Config    // nil: the system's authorities
	Tell      func(Finding)  // each finding as it comes; nil: nobody is told
}

// Report is all findings, in the order of the walk.
type Report struct {
	Reference string    `json:"reference"`
	Findings  []Finding `json:"findings"`
}

// Worst is the worst verdict of all.
func (r *Report) Worst() Verdict {
	worst := OK
	for _, f := range r.Findings {
		if f.Verdict == Fail || worst == OK {
			worst = f.Verdict
		}
		if worst == Fail {
			break
		}
	}
	return worst
}

// Walk goes as far as a client would get. The error is one of the options;
// what goes wrong on the way is a finding.
func Walk(ctx context.Context, o Options) (Report, error) {
	t, err := parseTarget(o.Reference)
	if err != nil {
		return Report{}, err
	}
	w := &walk{o: o, target: t, report: Report{Reference: o.Reference}, began: time.Now()}
	defer w.close()
	for _, step := range []func(context.Context) bool{
		w.dns, w.connect, w.api, w.authenticate, w.manifest, w.referrers, w.index, w.tables, w.ranges,
	} {
		w.began = time.Now()
		if ctx.Err() != nil || !step(ctx) {
			break
		}
	}
	return w.report, ctx.Err()
}

// walk is one walk; each step leaves in it what the next ones need.
type walk struct {
	o      Options
	target target
	report Report
	began  time.Time // of the step

	scheme string
	plain  *http.Client // without credentials
	client *http.Client // with them, as of authenticate

	image image        // as of manifest
	found *indexed     // as of referrers; nil: there is no index
	spans []layerTable // as of tables
}

// step limits.
const (
	// headerTimeout is soci-snapshotter's: an answer that begins later is none.
	headerTimeout = 3 * time.Second
	stepTimeout   = 30 * time.Second
	maxBody       = 256 << 20 // the largest zTOC is much smaller
)

func (w *walk) close() {
	if w.plain != nil {
		w.plain.CloseIdleConnections()
	}
}

// tell files a finding; it reports whether to go on.
func (w *walk) tell(v Verdict, step, mend, format string, args ...any) bool {
	f := Finding{Step: step, Verdict: v, What: fmt.Sprintf(format, args...), Mend: mend, Took: time.Since(w.began)}
	w.report.Findings = append(w.report.Findings, f)
	if w.o.Tell != nil {
		w.o.Tell(f)
	}
	w.began = time.Now()
	return v != Fail
}
