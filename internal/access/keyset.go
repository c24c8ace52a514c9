package access

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	// keysEvery is the age at which a key set is fetched again: after that, a
	// key that was withdrawn opens nothing any more.
	keysEvery = 5 * time.Minute
	// keysPause is left between two fetches, whatever unknown keys tokens name.
	keysPause = 10 * time.Second
	// keysTime bounds one fetch.
	keysTime = 5 * time.Second
	// maxKeySet bounds a key set's bytes, maxKeys its keys.
	maxKeySet = 1 << 20
	maxKeys   = 64
	// minRSA is the smallest RSA key that proves anything (NIST SP 800-131A).
	minRSA = 2048
)

// checkKey is a key that tokens are verified with.
type checkKey struct {
	id  string // "": not named
	alg string // "": any that fits
	key crypto.PublicKey
}

// keys are those in force at one time.
type keys struct {
	list  []checkKey
	roots *x509.CertPool // nil: certificates in tokens count for nothing
}

// keySet holds the keys of a token server, out of a file, which is read again
// when it changes, or from an address, which is asked again from time to time
// and when a token names a key that is not known.
type keySet struct {
	file string
	from *url.URL // nil: the file
	http *http.Client
	log  *slog.Logger
	same singleflight.Group

	mu      sync.Mutex
	now     keys
	turn    int       // counts how often they changed
	looked  time.Time // at the file, or when they were asked for
	fetched time.Time
	stamp   stamp
	raw     string
}

// get gives the keys in force. unknown says that those of turn were not enough.
func (s *keySet) get(ctx context.Context, now time.Time, unknown bool) (keys, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.from == nil && now.Sub(s.looked) >= lookAgain:
		s.looked = now
		s.rereadLocked()
	case s.from != nil && (unknown || s.turn == 0) && (s.looked.IsZero() || now.Sub(s.looked) >= keysPause):
		s.mu.Unlock()
		s.fetch(ctx, now)
		s.mu.Lock()
	}
	return s.now, s.turn
}

// refresh asks again for keys that are old.
func (s *keySet) refresh(ctx context.Context, now time.Time) {
	if s.from == nil {
		return
	}
	s.mu.Lock()
	due := now.Sub(s.fetched) >= keysEvery
	s.mu.Unlock()
	if due {
		s.fetch(ctx, now)
	}
}

// fetch asks for the keys, once for all who want them at the time. When that
// fails, those of before stay.
func (s *keySet) fetch(ctx context.Context, now time.Time) {
	_, _, _ = s.same.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTime)
		defer cancel()
		text, err := s.download(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.looked = now
		if err == nil {
			err = s.takeLocked(text)
		}
		if err != nil {
			s.log.Warn("the token server's keys are not to be had; those of before count", "url", s.from.Redacted(), "keys", len(s.now.list), "err", err)
			return nil, nil
		}
		s.fetched = now
		return nil, nil
	})
}

func (s *keySet) download(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.from.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.from.Redacted(), resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err == nil && len(text) > maxKeySet {
		err = fmt.Errorf("%s has more than %d bytes", s.from.Redacted(), maxKeySet)
	}
	return text, err
}

// rereadLocked takes in a file that has changed.
func (s *keySet) rereadLocked() {
	info, err := os.Stat(s.file)
	if err == nil && (stamp{info.ModTime(), info.Size()}) == s.stamp {
		return
	}
	if err == nil {
		err = s.readLocked()
	}
	if err != nil {
		s.log.Warn("the token server's keys are not taken over; those of before count", "file", s.file, "err", err)
	}
}

func (s *keySet) readLocked() error {
	info, err := os.Stat(s.file) // before it is read: a change meanwhile is seen the next time
	if err != nil {
		return err
	}
	if info.Size() > maxKeySet {
		return fmt.Errorf("%s has more than %d bytes", s.file, maxKeySet)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	if err := s.takeLocked(text); err != nil {
		return fmt.Errorf("%s: %w", s.file, err)
	}
	s.stamp = stamp{info.ModTime(), info.Size()}
	return nil
}

func (s *keySet) takeLocked(text []byte) error {
	if s.turn > 0 && s.raw == string(text) {
		return nil
	}
	next, err := parseKeys(text)
	if err != nil {
		return err
	}
	s.now, s.raw = next, string(text)
	s.turn++
	s.log.Info("the token server's keys were read", "keys", len(next.list))
	return nil
}

var errNoKeys = errors.New("holds no key that tokens can be verified with: want a JSON Web Key Set, or PEM certificates or public keys")

// parseKeys reads a JSON Web Key Set (RFC 7517), or PEM certificates and public
// keys. Keys of a set that are for something else are left out.
func parseKeys(text []byte) (k keys, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(text, &set) == nil {
		for _, raw := range set.Keys {
			var j jose.JSONWebKey
			if j.UnmarshalJSON(raw) != nil || j.Use != "" && j.Use != "sig" || !j.IsPublic() {
				continue
			}
			if x := (checkKey{j.KeyID, j.Algorithm, j.Key}); x.strong() {
				k.list = append(k.list, x)
			}
		}
	} else if k, err = parsePEM(text); err != nil {
		return keys{}, err
	}
	switch {
	case len(k.list) == 0:
		return keys{}, errNoKeys
	case len(k.list) > maxKeys:
		return keys{}, fmt.Errorf("holds more than %d keys", maxKeys)
	}
	return k, nil
}

func parsePEM(text []byte) (k keys, err error) {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return k, nil
		}
		var key crypto.PublicKey
		switch b.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return keys{}, err
			}
			if k.roots == nil {
				k.roots = x509.NewCertPool()
			}
			k.roots.AddCert(cert)
			key = cert.PublicKey
		case "PUBLIC KEY":
			if key, err = x509.ParsePKIXPublicKey(b.Bytes); err != nil {
				return keys{}, err
			}
		default: // a private key has no business here
			return keys{}, fmt.Errorf("holds a PEM %s: want only CERTIFICATE and PUBLIC KEY", b.Type)
		}
		if x := (checkKey{key: key}); x.strong() {
			k.list = append(k.list, x)
		}
	}
}

func (x checkKey) strong() bool {
	switch k := x.key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	default:
		return false
	}
}

// fitting are the keys that may have signed what names id and alg: keys have the
// names that the set gives them, and those without one are tried in turn.
func (k keys) fitting(id, alg string) []checkKey {
	return slices.DeleteFunc(slices.Clone(k.list), func(x checkKey) bool {
		return id != "" && x.id != "" && x.id != id || x.alg != "" && x.alg != alg
	})
}
