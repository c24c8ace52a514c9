package referrers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	dto "github.com/prometheus/client_model/go"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage/bolt"
)

// soon is an index that comes at a time, if at all.
type soon struct {
	at      time.Time // when it will be listed
	sure    bool
	in      time.Duration // as it is guessed; 0: exactly
	brought int
	bring   bool // then it is sure
	listed  atomic.Bool
}

func (c *soon) Coming(context.Context, oci.Repo, digest.Digest) (time.Duration, bool, error) {
	left := max(time.Until(c.at), 0)
	if c.in != 0 {
		left = c.in
	}
	return left, c.sure && !c.listed.Load(), nil
}

func (c *soon) BringLayers(context.Context, oci.Repo, digest.Digest) error {
	c.brought++
	c.sure = c.sure || c.bring
	return nil
}

// ask sends one request of a client and gives the answer, and how long it took.
func (c *soon) ask(t *testing.T, s *Referrers, client, target string) (*httptest.ResponseRecorder, time.Duration, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.RemoteAddr = client + ":1234"
	w := httptest.NewRecorder()
	began := time.Now()
	err := s.Serve(w, r, repo, subject)
	return w, time.Since(began), err
}

// holdTest runs fn in a bubble, over a store of its own.
func holdTest(t *testing.T, c *soon, o HoldOptions, fn func(t *testing.T, db *bolt.DB, s *Referrers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t)
		o.Coming = c
		fn(t, db, New(Options{Store: db, Hold: o}))
	})
}

func isNotYet(err error) bool {
	var e *oci.Error
	return errors.As(err, &e) && e.HTTPStatus() == http.StatusServiceUnavailable && e.RetryAfter == time.Second
}

var sociQuery = filtered(oci.MediaTypeSOCIIndexV1)

// TestHeldUntilListed: a client gets the index that comes while it waits, at the
// first, or at a later attempt.
func TestHeldUntilListed(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 5 * time.Second, 19 * time.Second} {
		c := &soon{sure: true}
		holdTest(t, c, HoldOptions{}, func(t *testing.T, db *bolt.DB, s *Referrers) {
			c.at = time.Now().Add(after)
			time.AfterFunc(after, func() {
				put(t, db, entry(1, oci.MediaTypeSOCIIndexV1))
				c.listed.Store(true)
			})
			for {
				w, took, err := c.ask(t, s, "10.0.0.1", sociQuery)
				if took > 2100*time.Millisecond {
					t.Fatalf("held for %s", took)
				}
				if isNotYet(err) {
					time.Sleep(time.Second)
					continue
				}
				if n := len(decode(t, w.Result()).Manifests); err != nil || n != 1 {
					t.Errorf("after %s: %d entries, %v", after, n, err)
				}
				return
			}
		})
	}
}

// TestHeldAtMost: what does not come after all is answered with the empty list
// in the end, and who comes later has patience of its own.
func TestHeldAtMost(t *testing.T) {
	c := &soon{sure: true, in: time.Second}
	holdTest(t, c, HoldOptions{}, func(t *testing.T, _ *bolt.DB, s *Referrers) {
		began := time.Now()
		for {
			w, _, err := c.ask(t, s, "10.0.0.1", sociQuery)
			if isNotYet(err) {
				time.Sleep(time.Second)
				continue
			}
			if n := len(decode(t, w.Result()).Manifests); err != nil || n != 0 {
				t.Errorf("%d entries, %v", n, err)
			}
			break
		}
		var m dto.Metric
		if err := s.m.waited.Write(&m); err != nil || m.GetHistogram().GetSampleCount() < 7 || m.GetHistogram().GetSampleSum() < 12 {
			t.Errorf("waits as measured: %v, %v", &m, err)
		}
		if took := time.Since(began); took < 17*time.Second || took > 22*time.Second {
			t.Errorf("the client was held for %s in all", took)
		}
		if _, _, err := c.ask(t, s, "10.0.0.2", sociQuery); !isNotYet(err) {
			t.Errorf("another client: %v", err)
		}
	})
}

// TestNotHeld: whoever asks for anything else, or for what will not come, or not
// in time, has its answer at once.
func TestNotHeld(t *testing.T) {
	for name, tc := range map[string]struct {
		c      *soon
		target string
	}{
		"all referrers":     {&soon{sure: true}, "/referrers"},
		"signatures":        {&soon{sure: true}, filtered(signature)},
		"nothing under way": {&soon{}, sociQuery},
		"too late":          {&soon{sure: true, in: time.Minute}, sociQuery},
	} {
		t.Run(name, func(t *testing.T) {
			holdTest(t, tc.c, HoldOptions{}, func(t *testing.T, _ *bolt.DB, s *Referrers) {
				w, took, err := tc.c.ask(t, s, "10.0.0.1", tc.target)
				if err != nil || took > 0 || len(decode(t, w.Result()).Manifests) != 0 || tc.c.brought > 0 {
					t.Errorf("%v after %s, %d times brought", err, took, tc.c.brought)
				}
			})
		})
	}
}

// TestFirstPullBuilds: by that policy the first to ask has the layers fetched.
func TestFirstPullBuilds(t *testing.T) {
	c := &soon{bring: true, in: time.Second}
	holdTest(t, c, HoldOptions{Build: true}, func(t *testing.T, _ *bolt.DB, s *Referrers) {
		if _, _, err := c.ask(t, s, "10.0.0.1", sociQuery); !isNotYet(err) || c.brought != 1 {
			t.Errorf("%v, %d times brought", err, c.brought)
		}
	})
}
