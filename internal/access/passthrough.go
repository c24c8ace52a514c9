package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sociable/sociable/internal/oci"
)

// Upstreams asks upstreams in callers' names. Its errors wrap ErrRefused where
// the upstream refuses, ErrUnknown where it knows nothing of that name; all
// others say nothing about the caller.
type Upstreams interface {
	// Login exchanges credentials for what upstream is asked with, into s or,
	// where that is nil, a new Session, to pull from repo, and to push where
	// Policy.Pushed says so. repo "" only finds out whether they are good.
	Login(ctx context.Context, upstream string, s Session, user, password, repo string) (Session, error)
	// Check asks whether s may pull from repo; nil is a caller without
	// credentials. kind and ref tell what of it is wanted, "manifests" and "v1"
	// for example, and are "" where that is not one thing.
	Check(ctx context.Context, s Session, repo oci.Repo, kind, ref string) error
}

// Session is what an upstream is asked with in a caller's name. It holds no
// password.
type Session interface {
	// Until is how long it is good for repo.
	Until(repo string) time.Time
}

// What an upstream says about a caller.
var (
	ErrRefused = errors.New("the upstream refuses this caller")
	// ErrRefusedLogin is an ErrRefused that is about no repository: it is not
	// asked about with another.
	ErrRefusedLogin = fmt.Errorf("%w whatever it asks for", ErrRefused)
	ErrUnknown      = errors.New("the upstream does not know this")
)

// How long an upstream's word about a caller and a repository counts.
const (
	mayTTL    = 5 * time.Minute
	mayNotTTL = time.Minute
	// mayGrace is how long it counts while the upstream can't be asked.
	mayGrace = time.Hour
	// checkTime bounds asking it.
	checkTime = 10 * time.Second
	// awayTTL is how long it counts as away after a login got no answer, and
	// awayRetry how long nobody waits for the next try.
	awayTTL   = time.Minute
	awayRetry = 5 * time.Second
)

// Bounds on what is remembered of callers.
const (
	maxSessions = 4096
	maxWords    = 16384
)

// loginKey stands for a caller's credentials: a keyed hash. Zero is nobody.
type loginKey [sha256.Size]byte

func (k loginKey) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }

func parseLoginKey(s string) (k loginKey, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	return k, err == nil && copy(k[:], raw) == len(k) && len(raw) == len(k)
}

// passthrough is what upstreams said about callers.
type passthrough struct {
	ask      Upstreams
	key      secret
	sessions *lru.Cache[sessionOf, Session]
	words    *lru.Cache[wordOf, word]
	aways    *lru.Cache[sessionOf, away]
	proven   *lru.Cache[sessionOf, bool] // false: it is not, and has counted as a guess
	tells    sync.Map                    // names of upstreams; see believes
	asking   asking
	at       addresses
}

type sessionOf struct {
	login    loginKey
	upstream string
}

// wordOf is whom and what an upstream was asked about; a repository without a
// name is the login itself.
type wordOf struct {
	login loginKey
	repo  oci.Repo
}

type word struct {
	may  bool
	when time.Time
	// there: it was the answer to a login, which the next one will not change. What
	// was asked with a token may be refused because that is not good any more.
	there bool
}

// away is that a login got no answer.
type away struct {
	err  error
	when time.Time
}

func newPassthrough(ask Upstreams) *passthrough {
	sessions, err := lru.New[sessionOf, Session](maxSessions)
	if err != nil {
		panic(err) // the size is a constant
	}
	words, err := lru.New[wordOf, word](maxWords)
	if err != nil {
		panic(err) // the size is a constant
	}
	aways, err := lru.New[sessionOf, away](maxSessions)
	if err != nil {
		panic(err) // the size is a constant
	}
	proven, err := lru.New[sessionOf, bool](maxSessions)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &passthrough{ask: ask, key: newSecret(), sessions: sessions, words: words, aways: aways, proven: proven}
}

// believes reports whether upstream's taking login without a repository says that
// the credentials are good: some token services give anybody a token for nothing,
// others have been seen to refuse that. A login that was let in for a repository
// needs no more proof.
func (p *passthrough) believes(login loginKey, upstream string) bool {
	proven, _ := p.proven.Peek(sessionOf{login, upstream})
	_, tells := p.tells.Load(upstream)
	return proven || tells
}

// met reports a login that is no guess, or has counted as one: the same
// credentials again tell nobody anything.
func (p *passthrough) met(login loginKey, upstream string) bool {
	_, ok := p.proven.Get(sessionOf{login, upstream})
	return ok
}

// session is what upstream is asked with for login; nil: nobody, or not known.
func (p *passthrough) session(login loginKey, upstream string) Session {
	if login == (loginKey{}) {
		return nil
	}
	s, _ := p.sessions.Get(sessionOf{login, upstream})
	return s
}

// ready reports whether upstream can be asked about repo without another login.
func (p *passthrough) ready(login loginKey, repo oci.Repo, now time.Time) bool {
	s := p.session(login, repo.Upstream)
	return s != nil && s.Until(repo.Name).After(now)
}

// refuses reports that upstream has just refused login's credentials.
func (p *passthrough) refuses(login loginKey, upstream string, now time.Time) bool {
	w, ok := p.words.Get(wordOf{login, oci.Repo{Upstream: upstream}})
	return ok && !w.may && now.Sub(w.when) < mayNotTTL
}

// awayFor is why upstream got no answer to login's last try to log in, if that
// was less than d ago; or nil.
func (p *passthrough) awayFor(login loginKey, upstream string, d time.Duration, now time.Time) error {
	if x, ok := p.aways.Get(sessionOf{login, upstream}); ok && now.Sub(x.when) < d {
		return x.err
	}
	return nil
}

// graced reports whether err, of a try to ask upstream, leaves what it said
// about login and repo before to count: it said nothing now, and trouble there
// must not take down what is cached here.
func (p *passthrough) graced(login loginKey, repo oci.Repo, err error, now time.Time) bool {
	w, known := p.words.Get(wordOf{login, repo})
	_, ours := errors.AsType[*oci.Error](err)
	return err != nil && !ours && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknown) &&
		known && w.may && now.Sub(w.when) < mayGrace
}

// refused forgets what an upstream said, because it has just said otherwise.
func (p *passthrough) refused(login loginKey, repo oci.Repo) { p.words.Remove(wordOf{login, repo}) }
