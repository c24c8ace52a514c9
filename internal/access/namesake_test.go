package access

import (
	"context"
	"net/http"
	"strconv"
	"testing"
)

// namesakes are two upstreams, each with an alice of its own.
type namesakes struct{ *fakeUpstreams }

func (n namesakes) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	switch {
	case up == "b.io" && password == "mallorys":
		password = "wonder"
	case up == "b.io":
		password = ""
	}
	return n.fakeUpstreams.Login(ctx, up, s, user, password, repo)
}

// TestNamesake: whoever has an account of the same name elsewhere is delayed at
// guessing as anybody is, and is at home there alone.
func TestNamesake(t *testing.T) {
	for _, tt := range []struct {
		name  string
		login func(t *testing.T, b *bench) int // as the other alice
	}{
		{"by pulling", func(t *testing.T, b *bench) int {
			return b.get(t, "/v2/b.io/x/manifests/1", "alice", "mallorys").StatusCode
		}},
		{"by a token", func(t *testing.T, b *bench) int {
			return b.token(t, "alice", "mallorys", "repository:b.io/x:pull").status
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, f := newPassBench(t)
			b.a.pass.ask = namesakes{f}
			answers := map[int]int{}
			for i := range 4 * freeTries {
				if got := tt.login(t, b); got != http.StatusOK {
					t.Fatalf("the other alice, after %d guesses: %d", i, got)
				}
				answers[b.get(t, "/v2/a.io/x/manifests/1", "alice", "guess"+strconv.Itoa(i)).StatusCode]++
			}
			if answers[http.StatusUnauthorized] != freeTries || answers[http.StatusTooManyRequests] != 3*freeTries {
				t.Errorf("answers to guesses by status: %v", answers)
			}
			for i := range 2 * freeTriesOfAddress { // of users who are nobody's: the address has no more to spend
				b.get(t, "/v2/a.io/x/manifests/1", "user"+strconv.Itoa(i), "guess")
			}
			who := trier{addr: "127.0.0.1", user: "alice", upstream: "a.io"}
			b.a.penalties.tries.Remove(who) // as after a long time
			if _, wait := b.a.penalties.begin(who, loginKey{1}, b.clock.now()); wait == 0 {
				t.Error("by a login elsewhere she is at home here, and spends nothing of the address's")
			}
		})
	}
}

// TestNamesakeOfOurs: a login at an upstream makes up for no guesses at the
// password of a user of ours.
func TestNamesakeOfOurs(t *testing.T) {
	b, _ := newPassBench(t)
	for i := range freeTries + 1 {
		want := http.StatusUnauthorized
		if i == freeTries {
			want = http.StatusTooManyRequests
		}
		if got := b.get(t, "/v2/local/x/manifests/1", "bob", "guess"+strconv.Itoa(i)).StatusCode; got != want {
			t.Errorf("guess %d: %d, want %d", i, got, want)
		}
	}
	now := b.clock.now()
	b.a.penalties.right(trier{addr: "127.0.0.1", user: "bob", upstream: "a.io"}, now)
	if got := b.get(t, "/v2/local/x/manifests/1", "bob", "another").StatusCode; got != http.StatusTooManyRequests {
		t.Errorf("a guess after a login at an upstream: %d", got)
	}
}
