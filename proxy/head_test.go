package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// heads is an upstream that is asked for sizes alone: nothing is answered before
// it is told what.
type heads struct {
	Registry
	mu     sync.Mutex
	asked  []string
	answer func(repo string) (int64, error)
	held   chan struct{} // closed: answer
}

func (g *heads) head(ctx context.Context, kind, repo string) (int64, error) {
	g.mu.Lock()
	g.asked = append(g.asked, kind+" "+repo)
	held := g.held
	g.mu.Unlock()
	select {
	case <-held:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	return g.answer(repo)
}

func (g *heads) HeadBlob(ctx context.Context, repo string, _ digest.Digest) (int64, error) {
	return g.head(ctx, "blob", repo)
}

func (g *heads) HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	n, err := g.head(ctx, "manifest", repo)
	return v1.Descriptor{Digest: ref.Digest, Size: n}, err
}

// hold has it answer no more until the next release.
func (g *heads) hold() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.held = held
	return func() { close(held) }
}

// take gives what was asked since the last time, sorted.
func (g *heads) take() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.asked
	g.asked = nil
	slices.Sort(a)
	return strings.Join(a, ", ")
}

var errNotThere = &upstream.StatusError{Status: http.StatusNotFound}

// mineAlone answers for the repository mine, and has nothing in any other.
func mineAlone(size int64) func(string) (int64, error) {
	return func(repo string) (int64, error) {
		if repo == "mine" {
			return size, nil
		}
		return 0, errNotThere
	}
}

// TestHeadsAreShared has many callers of two repositories want what one HEAD of each
// tells them: there is one for each repository, whoever leaves meanwhile, and what it
// says is told to nobody of the other.
func TestHeadsAreShared(t *testing.T) {
	const callers = 64
	body := random(1000, 3)
	d := digest.FromBytes(body)
	for name, tt := range map[string]struct {
		here storage.Kind // of what another repository brought; "": nothing did
		kind string       // that upstream is asked about
		ask  func(ctx context.Context, b *bubble, repo oci.Repo) error
	}{
		"a cold HEAD": {"", "blob", byHTTP(http.MethodHead, d)},
		"a suffix of a cold blob": {"", "blob", func(ctx context.Context, b *bubble, repo oci.Repo) error {
			who := asker{b.up, repo}
			f, _, err := b.p.acquire(ctx, b.up, oci.Repo{Upstream: "up", Name: "lead"}, d, true)
			if err != nil {
				return err
			}
			defer f.release()
			return f.headSize(ctx, who)
		}},
		"the right to a blob that is here":     {storage.KindBlob, "blob", byHTTP(http.MethodGet, d)},
		"the right to a manifest that is here": {storage.KindManifest, "manifest", byHTTP(http.MethodGet, d)},
		"the end of what can't be kept": {"", "blob", func(ctx context.Context, b *bubble, repo oci.Repo) error {
			_, err := b.p.passSource(ctx, asker{b.up, repo}, d, []oci.RangeSpec{{First: -100}}, nil, storage.ErrFull)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &heads{answer: mineAlone(1000)}
				b := newBubble(t, g)
				if tt.here != "" {
					row := storage.BlobRow{Digest: d, Size: 1000, Kind: tt.here}
					if err := b.store.Put(t.Context(), row, body, nil); err != nil {
						t.Fatal(err)
					}
				}
				release := g.hold()
				left, leave := context.WithCancel(t.Context())
				defer leave()
				ask := func(ctx context.Context, repo string) error {
					return tt.ask(ctx, b, oci.Repo{Upstream: "up", Name: repo})
				}
				gone := make(chan error, 2)
				for _, repo := range []string{"mine", "theirs"} {
					go func() { gone <- ask(left, repo) }() // the first, whose question it is
				}
				synctest.Wait()
				var all sync.WaitGroup
				for range callers {
					all.Go(func() {
						if err := ask(t.Context(), "mine"); err != nil {
							t.Errorf("mine: %v", err)
						}
					})
					all.Go(func() {
						if err := ask(t.Context(), "theirs"); !upstream.IsNotFound(err) {
							t.Errorf("theirs: %v, want that it is not there", err)
						}
					})
				}
				synctest.Wait()
				leave()
				for range 2 {
					if err := <-gone; err == nil {
						t.Error("who left was answered")
					}
				}
				release()
				all.Wait()
				if got, want := g.take(), tt.kind+" mine, "+tt.kind+" theirs"; got != want {
					t.Errorf("upstream was asked %q, want %q", got, want)
				}
			})
		})
	}
}

// byHTTP asks for the blob d as a client does.
func byHTTP(method string, d digest.Digest) func(ctx context.Context, b *bubble, repo oci.Repo) error {
	return func(ctx context.Context, b *bubble, repo oci.Repo) error {
		w := httptest.NewRecorder()
		b.p.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, fmt.Sprintf("/v2/%s/blobs/%s", repo, d), nil))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case w.Code == http.StatusOK && w.Header().Get("Content-Length") == "1000":
			return nil
		case w.Code == http.StatusNotFound:
			return errNotThere
		}
		return fmt.Errorf("status %d, %s bytes: %s", w.Code, w.Header().Get("Content-Length"), w.Body)
	}
}

// TestFailedHead: what failed is told to those who waited for it, and to nobody who
// comes later.
func TestFailedHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &heads{}
		b := newBubble(t, g)
		boom := errors.New("boom")
		g.answer = func(string) (int64, error) { return 0, boom }
		release := g.hold()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := b.headOf(t.Context()); !errors.Is(err, boom) {
					t.Errorf("%v, want what upstream had", err)
				}
			})
		}
		synctest.Wait()
		release()
		all.Wait()
		g.answer = mineAlone(1000)
		if n, err := b.headOf(t.Context()); n != 1000 || err != nil {
			t.Errorf("then: %d, %v", n, err)
		}
		if got := g.take(); got != "blob mine, blob mine" {
			t.Errorf("upstream was asked %q, want one question for all who waited, and another then", got)
		}
	})
}

func (b *bubble) headOf(ctx context.Context) (int64, error) {
	return b.p.headOf(ctx, b.up, oci.Repo{Upstream: "up", Name: "mine"}, digest.FromString("x"), false)
}

// pushes is an upstream that pushes go through to.
type pushes struct {
	*heads
	Pusher
}

// TestFailedHeadOfAnother: who waited for a question that failed asks for itself where
// the failure may be none of its own.
func TestFailedHeadOfAnother(t *testing.T) {
	refusal := oci.NewError(errcode.ErrorCodeUnauthorized, "log in again")
	for name, tt := range map[string]struct {
		change func(*Upstream)
		err    error
		asked  int
	}{
		"each in its own name":      {func(u *Upstream) { u.AsCaller = func(*http.Request, oci.Repo) Registry { return u.Registry } }, refusal, 4},
		"pushed since it was asked": {func(u *Upstream) { u.PushThrough, u.Registry = true, pushes{heads: u.Registry.(*heads)} }, errNotThere, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &heads{}
				b := newBubble(t, g)
				tt.change(b.up)
				var first sync.Once
				g.answer = func(string) (n int64, err error) {
					n = 1000
					first.Do(func() { n, err = 0, tt.err })
					return n, err
				}
				release := g.hold()
				go func() {
					if _, err := b.headOf(t.Context()); !errors.Is(err, tt.err) {
						t.Errorf("the first: %v", err)
					}
				}()
				synctest.Wait()
				var others sync.WaitGroup
				for range 3 {
					others.Go(func() {
						if n, err := b.headOf(t.Context()); n != 1000 || err != nil {
							t.Errorf("another: %d, %v", n, err)
						}
					})
				}
				synctest.Wait()
				again := g.hold()
				release()
				synctest.Wait() // they all wait for what is asked now
				again()
				others.Wait()
				if asked := g.take(); strings.Count(asked, "blob mine") != tt.asked {
					t.Errorf("upstream was asked %q, want %d times", asked, tt.asked)
				}
			})
		})
	}
}
