package access

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sociable/sociable/internal/oci"
)

// TokenServerOptions say which tokens of a token server count here.
type TokenServerOptions struct {
	Realm    string         // where clients get them
	Service  string         // our name to it, and their audience
	Issuer   string         // its name in them
	KeysFile string         // a JSON Web Key Set, or PEM certificates or public keys
	KeysURL  *url.URL       // of a JSON Web Key Set; one of the two
	RootCAs  *x509.CertPool // for KeysURL; nil: the system's
	Logger   *slog.Logger   // nil: nothing is logged
}

// TokenServer verifies the tokens of an external token server (distribution
// project, "Token Authentication Implementation"). Safe for concurrent use.
type TokenServer struct {
	o     TokenServerOptions
	keys  *keySet
	known *lru.Cache[[sha256.Size]byte, verified]
}

// NewTokenServer makes a TokenServer. The keys of a file must be good; a server
// that is to be asked for them may be away: then its tokens do not count yet.
func NewTokenServer(o TokenServerOptions) (*TokenServer, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	known, err := lru.New[[sha256.Size]byte, verified](maxOpened)
	if err != nil {
		panic(err) // the size is a constant
	}
	s := &keySet{file: o.KeysFile, from: o.KeysURL, log: o.Logger}
	if o.KeysURL == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return &TokenServer{o, s, known}, s.readLocked()
	}
	s.http = &http.Client{
		Transport: &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
			IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &TokenServer{o, s, known}, nil
}

// Close gives idle connections back.
func (s *TokenServer) Close() {
	if s.keys.http != nil {
		s.keys.http.CloseIdleConnections()
	}
}

// theirClaims are what a token of the server says.
type theirClaims struct {
	jwt.Claims
	Access []Grant `json:"access"`
}

type verified struct {
	claims theirClaims
	until  time.Time
	turn   int // of the keys that verified it
}

// asymmetric are the algorithms that a token may be signed with. Whoever can
// verify it must not be able to sign one: no HMAC, and never none.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

var errNotTheirs = errors.New("the token is not one of the token server's")

// open verifies a token, or remembers that it did, with the keys that still
// count.
func (s *TokenServer) open(ctx context.Context, raw string, now time.Time) (theirClaims, error) {
	sum := sha256.Sum256([]byte(raw))
	ks, turn := s.keys.get(ctx, now, false)
	if x, ok := s.known.Get(sum); ok && x.turn == turn && now.Before(x.until) {
		return x.claims, nil
	}
	t, err := jwt.ParseSigned(raw, asymmetric)
	if err != nil || len(t.Headers) != 1 {
		return theirClaims{}, fmt.Errorf("%w: it is no JWT with one signature of an asymmetric algorithm", errNotTheirs)
	}
	c, err := s.signed(t, ks, now)
	if err != nil { // it may have new keys
		before := turn
		if ks, turn = s.keys.get(ctx, now, true); turn != before {
			c, err = s.signed(t, ks, now)
		}
	}
	if err != nil {
		return theirClaims{}, err
	}
	if c.Expiry == nil {
		return theirClaims{}, fmt.Errorf("%w: it never ends", errNotTheirs)
	}
	if err := s.valid(c.Claims, now); err != nil {
		return theirClaims{}, err
	}
	s.known.Add(sum, verified{c, c.Expiry.Time().Add(leeway), turn})
	return c, nil
}

// valid reports what in the claims of a token of theirs is not as it has to be; it
// is for the log alone.
func (s *TokenServer) valid(c jwt.Claims, now time.Time) error {
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: s.o.Issuer, AnyAudience: jwt.Audience{s.o.Service}, Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return fmt.Errorf("%w: its issuer (iss) is %.100q, auth.token_server.issuer is %q", errNotTheirs, c.Issuer, s.o.Issuer)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return fmt.Errorf("%w: its audience (aud) is %.100q, auth.token_server.service is %q", errNotTheirs, []string(c.Audience), s.o.Service)
	case errors.Is(err, jwt.ErrExpired):
		return fmt.Errorf("the token has expired: exp is %s", c.Expiry.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrNotValidYet):
		return fmt.Errorf("the token is not valid yet: nbf is %s", c.NotBefore.Time().UTC().Format(time.RFC3339))
	}
	return err
}

// signed are t's claims, when one of ks, or a certificate that they vouch for,
// signed it.
func (s *TokenServer) signed(t *jwt.JSONWebToken, ks keys, now time.Time) (c theirClaims, err error) {
	h := t.Headers[0]
	for _, k := range ks.fitting(h.KeyID, h.Algorithm) {
		c = theirClaims{}
		if t.Claims(k.key, &c) == nil {
			return c, nil
		}
	}
	unknown := fmt.Errorf("%w: none of its %d keys has signed it; it names the key (kid) %.100q, for %s", errNotTheirs, len(ks.list), h.KeyID, h.Algorithm)
	if ks.roots == nil {
		return theirClaims{}, unknown
	}
	chains, err := h.Certificates(x509.VerifyOptions{Roots: ks.roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil || len(chains) == 0 {
		return theirClaims{}, unknown
	}
	c = theirClaims{}
	if leaf := (checkKey{key: chains[0][0].PublicKey}); !leaf.strong() || t.Claims(leaf.key, &c) != nil {
		return theirClaims{}, unknown
	}
	return c, nil
}

// byTheirToken is who a token of the token server says. It names repositories as
// clients do; what one without an upstream means is never up to the Host header
// of who presents it.
func (a *Access) byTheirToken(r *http.Request, c *caller, s *TokenServer, raw string) {
	t, err := s.open(r.Context(), raw, a.now())
	if err != nil {
		a.log.InfoContext(r.Context(), "login", "via", ViaToken, "decision", "refused", "client", r.RemoteAddr, "err", err)
		c.err = a.unauthorized(r, "", "invalid_token", "the token has expired, or is not one of the token server's")
		return
	}
	grants := []Grant{}
	for _, g := range t.Access {
		if g.Type != "repository" || oci.CheckName(g.Name) != nil {
			continue
		}
		if repo, err := a.opt.Resolve("", g.Name); err == nil {
			grants = append(grants, Grant{g.Type, repo.String(), g.Actions})
		}
	}
	c.id = Identity{Name: t.Subject, Via: ViaToken}
	c.token, c.theirs = &grants, true
}

// byGrant decides for who has a token of the token server: what it grants is a
// right, where no rule says otherwise.
func (a *Access) byGrant(r *http.Request, c *caller, repo oci.Repo, action oci.Action) error {
	p := a.policy.Load()
	switch {
	case p.allows(Identity{}, repo, action): // without a token, too
		return nil
	case !granted(*c.token, repo, action):
		return a.unauthorized(r, scopeOf(repo, action), "insufficient_scope", "the token is not for this")
	}
	for i := range p.Rules {
		if !p.Rules[i].matches(repo) {
			continue
		}
		if p.groups.names(p.Rules[i].who(action), c.id) {
			return nil
		}
		return oci.NewError(errcode.ErrorCodeDenied, "%s may not %s %s", c.id, action, repo)
	}
	return nil
}

// Run keeps the token server's keys fresh until ctx ends. Then upstreams are asked
// about callers no more, and it waits for what is being asked.
func (a *Access) Run(ctx context.Context) error {
	defer a.pass.asking.stop()
	tick := time.NewTicker(keysEvery / 5)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s := a.policy.Load().Tokens; s != nil {
				s.keys.refresh(ctx, a.now())
			}
		case <-ctx.Done():
			return nil
		}
	}
}
