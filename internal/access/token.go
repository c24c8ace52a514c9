package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// tokenTTL is the life of the tokens of our own service. Clients get the
	// next one by themselves.
	tokenTTL = 5 * time.Minute
	// issuer and the audiences are in every token of ours. One for the registry
	// opens nothing at the admin listener, nor the other way round.
	issuer        = "sociable"
	registryToken = "sociable"
	adminToken    = "sociable-admin"
	// leeway is how far clocks may differ.
	leeway = 30 * time.Second
)

// claims are what a token of ours says.
type claims struct {
	jwt.Claims
	Via    string   `json:"via"`
	Groups []string `json:"groups,omitempty"`
	// Proof stands for the password's hash at that time: a token ends when its
	// user is removed, or has another password.
	Proof string `json:"proof,omitempty"`
	// Login stands for credentials that are an upstream's.
	Login  string  `json:"login,omitempty"`
	Access []Grant `json:"access"`
}

// mint signs a token of ours.
func (k *Keys) mint(c claims, audience string, now time.Time, ttl time.Duration) (string, error) {
	key := k.newest()
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key.private(), KeyID: key.ID},
	}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	c.Issuer, c.Audience, c.ID = issuer, jwt.Audience{audience}, rand.Text()
	c.IssuedAt, c.NotBefore, c.Expiry = jwt.NewNumericDate(now), jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(ttl))
	raw, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return raw, nil
}

var errToken = errors.New("the token is not one of ours")

// open verifies a token of ours.
func (k *Keys) open(raw, audience string, now time.Time) (c claims, err error) {
	t, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(t.Headers) != 1 {
		return c, errToken
	}
	key, ok := k.public(t.Headers[0].KeyID)
	if !ok {
		return c, errToken
	}
	if err := t.Claims(key, &c); err != nil {
		return c, errToken
	}
	if c.Expiry == nil {
		return c, errToken
	}
	err = c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{audience}, Time: now}, 0)
	return c, err
}

// proofOf stands for a bcrypt hash in tokens.
func proofOf(hash string) string {
	sum := sha256.Sum256([]byte("sociable token\x00" + hash))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// maxOpened bounds the tokens that are remembered as verified.
const maxOpened = 4096

// opener remembers tokens that were verified: clients send one with each of
// many small requests.
type opener struct {
	known *lru.Cache[[sha256.Size]byte, opened]
}

type opened struct {
	claims claims
	until  time.Time
}

func newOpener() *opener {
	known, err := lru.New[[sha256.Size]byte, opened](maxOpened)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &opener{known}
}

func (o *opener) open(k *Keys, raw, audience string, now time.Time) (claims, error) {
	sum := sha256.Sum256([]byte(audience + "\x00" + raw))
	if x, ok := o.known.Get(sum); ok && now.Before(x.until) {
		return x.claims, nil
	}
	c, err := k.open(raw, audience, now)
	if err == nil {
		o.known.Add(sum, opened{c, c.Expiry.Time()})
	}
	return c, err
}
