package access

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// lenientUpstreams have a token service that gives anybody a token who asks for
// nothing, and that refuses a repository to whom it does not let in there.
type lenientUpstreams struct{ *fakeUpstreams }

func (l lenientUpstreams) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	s, err := l.fakeUpstreams.Login(ctx, up, s, user, password, repo)
	switch x, _ := s.(*fakeSession); {
	case repo == "":
		return nothing{}, nil
	case err == nil && repo == "forbidden":
		return nil, ErrRefused
	case err == nil:
		x.not = "forbidden"
	}
	return s, err
}

// nothing is good for no repository.
type nothing struct{}

func (nothing) Until(string) time.Time { return time.Time{} }

// TestGuessesAtALenientService: that a token service takes any password for
// nothing is no way around the delay of guesses, and undoes none.
func TestGuessesAtALenientService(t *testing.T) {
	for _, tt := range []struct {
		name, repo string
		before     bool // each guess logs in without a scope first
		known      bool // alice has been let in before
	}{
		{"at what is forbidden to her", "a.io/forbidden", false, false},
		{"at what she may read", "a.io/x", false, false},
		{"logged in for nothing first", "a.io/x", true, false},
		{"logged in for nothing first, at what is forbidden", "a.io/forbidden", true, false},
		{"who is known here", "a.io/forbidden", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, f := newPassBench(t)
			b.a.pass.ask = lenientUpstreams{f}
			get := func(repo, password string) int {
				return b.get(t, "/v2/"+repo+"/manifests/1", "alice", password).StatusCode
			}
			if tt.known {
				if got := get("a.io/x", "wonder"); got != http.StatusOK {
					t.Fatalf("alice: %d", got)
				}
			}
			answers := map[int]int{}
			for i := range 4 * freeTries {
				guess := "guess" + strconv.Itoa(i)
				if tt.before {
					b.token(t, "alice", guess)
				}
				answers[get(tt.repo, guess)]++
				if i == 0 && get("a.io/forbidden", guess) != http.StatusForbidden {
					t.Error("the same password again, which tells nothing, is delayed or let in")
				}
			}
			if answers[http.StatusForbidden] != freeTries || answers[http.StatusTooManyRequests] != 3*freeTries {
				t.Errorf("answers by status: %v", answers)
			}
			if got := get("a.io/x", "wonder"); tt.known && got != http.StatusOK {
				t.Errorf("alice, who was here before: %d", got)
			}
		})
	}
}

// TestForbiddenToTheRightOne: whoever has the right password, and is let in
// nowhere yet, is not shut out by asking for many things that are forbidden.
func TestForbiddenToTheRightOne(t *testing.T) {
	b, f := newPassBench(t)
	b.a.pass.ask = lenientUpstreams{f}
	for range 4 * freeTries {
		if got := b.get(t, "/v2/a.io/forbidden/manifests/1", "alice", "wonder").StatusCode; got != http.StatusForbidden {
			t.Fatalf("what is forbidden: %d", got)
		}
		b.clock.advance(mayNotTTL)
	}
	if got := b.get(t, "/v2/a.io/x/manifests/1", "alice", "wonder").StatusCode; got != http.StatusOK {
		t.Errorf("what is not: %d", got)
	}
}
