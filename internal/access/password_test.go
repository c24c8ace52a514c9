package access

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

// TestPenalties: who guesses is slowed down, who knows is not.
func TestPenalties(t *testing.T) {
	b := newBench(t, mixed())
	right := func() int { return b.get(t, "/v2/", "alice", "wonder").StatusCode }
	guess := func(i int) *http.Response {
		return b.get(t, "/v2/", "alice", "guess"+string(rune('a'+i)))
	}
	if got := right(); got != 200 {
		t.Fatalf("%d, want 200", got)
	}
	for i := range freeTries {
		if got := guess(i).StatusCode; got != 401 {
			t.Fatalf("guess %d: %d, want 401", i, got)
		}
	}
	late := guess(10)
	if late.StatusCode != 429 || late.Header.Get("Retry-After") != "1" {
		t.Errorf("a guess too many: %s, Retry-After %q", late.Status, late.Header.Get("Retry-After"))
	}
	if got := right(); got != 200 {
		t.Errorf("who is known while others guess: %d, want 200", got)
	}
	for i := range freeTries { // right has cleared the count
		guess(11 + i)
	}
	b.clock.advance(time.Second)
	if got := guess(20).StatusCode; got != 401 {
		t.Errorf("after the pause: %d, want 401", got)
	}
	late = guess(21)
	if late.StatusCode != 429 || late.Header.Get("Retry-After") != "2" {
		t.Errorf("the next pause: %s, Retry-After %q", late.Status, late.Header.Get("Retry-After"))
	}
	if got := b.get(t, "/v2/", "bob", "builder").StatusCode; got != 200 {
		t.Errorf("another user from there: %d, want 200", got)
	}
	b.clock.advance(forgiven)
	if got := guess(22).StatusCode; got != 401 {
		t.Errorf("much later: %d, want 401", got)
	}
}

// TestGuessesAtOnce: many passwords at once are not compared before they count.
func TestGuessesAtOnce(t *testing.T) {
	b := newBench(t, mixed())
	const n = 40
	answers := make(chan int, 2*n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { answers <- b.get(t, "/v2/", "alice", "guess"+strconv.Itoa(i)).StatusCode })
		all.Go(func() { answers <- b.get(t, "/v2/", "bob", "builder").StatusCode })
	}
	all.Wait()
	close(answers)
	got := map[int]int{}
	for a := range answers {
		got[a]++
	}
	if diff := cmp.Diff(map[int]int{200: n, 401: freeTries, 429: n - freeTries}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// TestAddressIsNeverShut: who tries one user after another from an address slows
// them all down, but for those who were there before, and shuts nobody out.
func TestAddressIsNeverShut(t *testing.T) {
	p, now := newPenalties(), newClock().now()
	guess := func(addr, user string, v verdictOf) time.Duration {
		x, wait := p.begin(trier{addr: addr, user: user}, [32]byte{}, now)
		if wait == 0 {
			x.end(v, now)
		}
		return wait
	}
	guess("192.0.2.1", "home", triedRight)
	refused := 0
	for i := range 3 * maxPenalties {
		if guess("192.0.2.1", strconv.Itoa(i), triedWrong) > 0 {
			refused++
		}
	}
	if want := 3*maxPenalties - freeTriesOfAddress; refused != want {
		t.Errorf("%d of them have to wait, want %d", refused, want)
	}
	for _, tt := range []struct {
		addr, user string
		want       time.Duration
	}{{"192.0.2.1", "fresh", time.Second / triesPerSecond}, {"192.0.2.1", "home", 0}, {"192.0.2.2", "fresh", 0}} {
		if got := guess(tt.addr, tt.user, triedNothing); got != tt.want {
			t.Errorf("%s from %s waits %v, want %v", tt.user, tt.addr, got, tt.want)
		}
	}
	for i := range 200 { // one wrong password every two seconds
		now = now.Add(2 * time.Second)
		guess("192.0.2.1", "x"+strconv.Itoa(i), triedWrong)
		if wait := guess("192.0.2.1", "fresh", triedNothing); wait > 0 {
			t.Fatalf("fresh waits %v", wait)
		}
	}
	for i := range 3 * maxPenalties {
		guess("192.0.2."+strconv.Itoa(i), "u", triedWrong)
	}
	if got := max(p.tries.Len(), p.addrs.Len()); got > maxPenalties || len(p.pending) > 0 {
		t.Errorf("%d remembered, %d pending", got, len(p.pending))
	}
}

func TestClientAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:99": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "@": "@", "": "",
	} {
		if got := clientAddress(in); got != want {
			t.Errorf("clientAddress(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestComparedOnce: bcrypt is slow on purpose, and is spent once a password.
func TestComparedOnce(t *testing.T) {
	h, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	v, c := newVerifier(), newClock()
	for _, tt := range []struct {
		password string
		right    bool
		ttl      time.Duration
	}{{"p", true, rightTTL}, {"q", false, wrongTTL}} {
		if right, err := v.verify(t.Context(), "u", tt.password, string(h), c.now()); right != tt.right || err != nil {
			t.Fatalf("verify = %v, %v", right, err)
		}
		c.advance(tt.ttl - 1)
		if right, known := v.remembered("u", tt.password, string(h), c.now()); right != tt.right || !known {
			t.Errorf("%q is not remembered", tt.password)
		}
		c.advance(2)
		if right, known := v.remembered("u", tt.password, string(h), c.now()); right || known {
			t.Errorf("%q is remembered for too long", tt.password)
		}
	}
	if _, known := v.remembered("u", "p", "another hash", c.now()); known {
		t.Error("what is remembered is not bound to the hash")
	}
}

func TestPasswordFile(t *testing.T) {
	h, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	good := string(h)
	for name, tt := range map[string]struct{ text, want string }{
		"good":        {"# users\n\nalice:" + good + "\nbob:" + good, ""},
		"empty":       {"", ""},
		"no colon":    {"alice\n", "FILE:1: want USER:HASH, as htpasswd writes it"},
		"md5":         {"a:" + good + "\nb:$apr1$x$y\n", `FILE:2: the password of "b" is not a bcrypt hash; make one with htpasswd -B`},
		"plain":       {"b:secret\n", `FILE:1: the password of "b" is not a bcrypt hash; make one with htpasswd -B`},
		"twice":       {"a:" + good + "\na:" + good, `FILE:2: "a" is there twice`},
		"two at once": {"x\ny\n", "FILE:1: want USER:HASH, as htpasswd writes it\nFILE:2: want USER:HASH, as htpasswd writes it"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "htpasswd")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenPasswords(file, nil)
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), file, "FILE")
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHalfWrittenPasswordFile: what can't be read changes nothing.
func TestHalfWrittenPasswordFile(t *testing.T) {
	b := newBench(t, mixed())
	for _, broken := range []func() error{
		func() error { return os.WriteFile(b.file, []byte("alice:$2y$"), 0o600) },
		func() error { return os.Remove(b.file) },
	} {
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		b.clock.advance(lookAgain)
		if got := b.get(t, "/v2/", "bob", "builder").StatusCode; got != 200 {
			t.Errorf("%d, want 200", got)
		}
	}
	writePasswords(t, b.file, map[string]string{"carol": "c"})
	b.clock.advance(lookAgain)
	if got := b.get(t, "/v2/", "carol", "c").StatusCode; got != 200 {
		t.Errorf("a new user: %d, want 200", got)
	}
	if got := b.get(t, "/v2/", "bob", "builder").StatusCode; got != 401 {
		t.Errorf("a user that was removed: %d, want 401", got)
	}
}
