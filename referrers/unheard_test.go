package referrers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

const (
	stale      = `299 - "stale: the upstream could not be asked, its referrers are listed as they last were"`
	incomplete = `299 - "incomplete: the upstream could not be asked, and what it lists was never seen here"`
)

// TestUnheard: while an upstream gives no answer, a list that has nothing is no
// answer either, and one that has something says what it lacks. What an upstream
// refuses, or says in a way that nobody understands, it will say again.
func TestUnheard(t *testing.T) {
	soci, sig := entry(9, oci.MediaTypeSOCIIndexV1), entry(1, signature)
	silent := map[string]error{
		"silent":      nil, // until it is no longer waited for
		"unreachable": errAway,
		"unavailable": &upstream.StatusError{Status: http.StatusServiceUnavailable},
		"held":        &upstream.HeldError{Err: errAway},
	}
	lasting := map[string]error{
		"refused":  &upstream.StatusError{Status: http.StatusForbidden},
		"nonsense": &upstream.ProtocolError{Reason: "not an index"},
		"policy":   &upstream.PolicyError{},
	}
	type want struct {
		ours    []v1.Descriptor
		target  string
		refused bool
		warning string
	}
	check := func(name string, err error, w want) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			t.Logf("%s: %d of ours, %s", name, len(w.ours), w.target)
			u := &scripted{err: err}
			if err == nil {
				u.takes = time.Hour
			}
			s := New(Options{Store: newStore(t, w.ours...), Upstream: u.ask})
			rec := httptest.NewRecorder()
			began := time.Now()
			got := s.Serve(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, w.target, nil), repo, subject)
			if took := time.Since(began); took > time.Second {
				t.Errorf("answered after %s", took)
			}
			counted := testutil.ToFloat64(s.m.lists.WithLabelValues(sociNone)) + testutil.ToFloat64(s.m.lists.WithLabelValues(sociOurs))
			if w.refused {
				if !isNotYet(got) || rec.Body.Len() > 0 || counted != 0 {
					t.Errorf("%v, %q, %v counted as served; want 503", got, rec.Body, counted)
				}
				return
			}
			if warning := rec.Header().Get("Warning"); got != nil || rec.Code != http.StatusOK || counted != 1 || warning != w.warning {
				t.Errorf("%v, %d, %v counted as served, Warning %q, want %q", got, rec.Code, counted, warning, w.warning)
			}
		})
	}
	both := []v1.Descriptor{soci, sig}
	for name, err := range silent {
		check(name, err, want{target: target, refused: true})
		check(name, err, want{target: sociQuery, refused: true})
		check(name, err, want{ours: both[:1], target: filtered(signature), refused: true})
		check(name, err, want{ours: both[:1], target: target, warning: incomplete})
		check(name, err, want{ours: both[:1], target: sociQuery})
		check(name, err, want{ours: both, target: filtered(signature), warning: incomplete})
	}
	for name, err := range lasting {
		check(name, err, want{target: target, warning: incomplete})
		check(name, err, want{ours: both[:1], target: sociQuery})
	}
	check("offline", upstream.ErrOffline, want{target: target})
}

// TestHeardBefore: an upstream that listed nothing when it was last asked is taken at
// that word while it is away.
func TestHeardBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &scripted{}
		s := New(Options{Store: newStore(t), Upstream: u.ask, TTL: time.Minute})
		for _, step := range []struct {
			err     error
			warning string
		}{{nil, ""}, {errAway, stale}, {errAway, stale}, {nil, ""}} {
			u.err = step.err
			resp := get(t, s, http.MethodGet, sociQuery)
			if n := len(decode(t, resp).Manifests); n != 0 || resp.Header.Get("Warning") != step.warning {
				t.Errorf("%d entries, Warning %q, want %q", n, resp.Header.Get("Warning"), step.warning)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestAskedAgain: a client repeats its question eight times, a second after each
// answer. It gets the list of an upstream that is back by then.
func TestAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want, back := entry(1, oci.MediaTypeSOCIIndexV1), time.Now().Add(5*time.Second)
		ask := func(ctx context.Context, _ oci.Repo, _ digest.Digest) ([]v1.Descriptor, error) {
			if time.Now().Before(back) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			return []v1.Descriptor{want}, nil
		}
		s := New(Options{Store: newStore(t), Upstream: ask})
		for range 9 {
			w := httptest.NewRecorder()
			err := s.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, sociQuery, nil), repo, subject)
			if err == nil {
				if got := decode(t, w.Result()).Manifests; len(got) != 1 || got[0].Digest != want.Digest {
					t.Errorf("got %v", got)
				}
				return
			}
			if !isNotYet(err) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		t.Error("the upstream was back, and not asked")
	})
}
