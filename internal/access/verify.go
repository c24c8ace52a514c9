package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"runtime"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/bcrypt"
)

// How long the outcome of a comparison is remembered. A change of the file
// counts at once all the same: what is remembered is bound to the hash.
const (
	rightTTL = 10 * time.Minute
	wrongTTL = time.Minute
)

// maxVerdicts bounds what is remembered of passwords, right and wrong.
const maxVerdicts = 4096

// secret is a key of this process, for hashes of what must not be kept.
type secret [32]byte

func newSecret() (s secret) {
	_, _ = rand.Read(s[:]) // never fails: crypto/rand
	return s
}

// keyed is a hash of parts, which none of them can be found from.
func (s *secret) keyed(parts ...string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, s[:])
	for _, p := range parts {
		n := len(p)
		_, _ = h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) // a hash never fails
		_, _ = io.WriteString(h, p)
	}
	h.Sum(sum[:0])
	return sum
}

// verifier compares passwords with their bcrypt hashes, each one once: bcrypt
// is made to be slow.
type verifier struct {
	key   secret
	known *lru.Cache[[sha256.Size]byte, verdict]
	busy  chan struct{} // one slot for each comparison at work
}

type verdict struct {
	right bool
	until time.Time
}

func newVerifier() *verifier {
	known, err := lru.New[[sha256.Size]byte, verdict](maxVerdicts)
	if err != nil {
		panic(err) // the size is a constant
	}
	// Half of the machine at most is spent on guesses.
	return &verifier{key: newSecret(), known: known, busy: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// remembered tells what is known of a password without comparing it.
func (v *verifier) remembered(user, password, hash string, now time.Time) (right, known bool) {
	x, ok := v.known.Get(v.key.keyed(user, password, hash))
	return ok && x.right && now.Before(x.until), ok && now.Before(x.until)
}

// verify compares password with hash, or remembers how that went. An error is
// ctx's: the comparison had to wait for too many others.
func (v *verifier) verify(ctx context.Context, user, password, hash string, now time.Time) (bool, error) {
	sum := v.key.keyed(user, password, hash)
	if x, ok := v.known.Get(sum); ok && now.Before(x.until) {
		return x.right, nil
	}
	select {
	case v.busy <- struct{}{}:
		defer func() { <-v.busy }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if x, ok := v.known.Get(sum); ok && now.Before(x.until) { // another request has just compared it
		return x.right, nil
	}
	right := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	ttl := wrongTTL
	if right {
		ttl = rightTTL
	}
	v.known.Add(sum, verdict{right, now.Add(ttl)})
	return right, nil
}
