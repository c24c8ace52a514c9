package access

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// rotateEvery is the age at which a key is followed by a new one.
	rotateEvery = 7 * 24 * time.Hour
	// MaxTokenTTL is the longest life of a token. Keys are kept so long after
	// they were followed.
	MaxTokenTTL = 24 * time.Hour
)

// Keys are what our tokens are signed with: the newest, and those before it as
// long as tokens of theirs may be about. They are kept in a file that only its
// owner may read. Safe for concurrent use.
type Keys struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu   sync.Mutex
	keys []signingKey // newest first; never empty
}

type signingKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Seed    []byte    `json:"seed"` // of Ed25519
}

func (k signingKey) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.Seed) }

type keyFile struct {
	Keys []signingKey `json:"keys"`
}

// OpenKeys reads the keys at path, or makes the first one. A file that others
// may read is an error; one that holds no keys, after a crash of the machine
// say, is replaced: all that costs is a login.
func OpenKeys(path string, log *slog.Logger, now func() time.Time) (*Keys, error) {
	k := &Keys{path: path, log: log, now: now}
	if log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		k.now = time.Now
	}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, k.rotate()
}

func (k *Keys) load() error {
	info, err := os.Stat(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the tokens' keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("open the tokens' keys: %s can be read by others: chmod 600 it, or remove it to have new keys made", k.path)
	}
	text, err := os.ReadFile(k.path)
	if err != nil {
		return fmt.Errorf("open the tokens' keys: %w", err)
	}
	var f keyFile
	if err := json.Unmarshal(text, &f); err != nil {
		k.log.Warn("the tokens' keys are damaged and are replaced; clients log in again", "file", k.path, "err", err)
		return nil
	}
	for _, x := range f.Keys {
		if len(x.Seed) == ed25519.SeedSize && x.ID != "" {
			k.keys = append(k.keys, x)
		}
	}
	slices.SortFunc(k.keys, func(a, b signingKey) int { return b.Created.Compare(a.Created) })
	return nil
}

// rotate makes a new key when it is time, and drops those whose tokens have all
// expired.
func (k *Keys) rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if len(k.keys) > 0 && now.Sub(k.keys[0].Created) < rotateEvery {
		return nil
	}
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails: crypto/rand
	fresh := signingKey{Created: now.UTC(), Seed: seed}
	sum := sha256.Sum256(fresh.private().Public().(ed25519.PublicKey))
	fresh.ID = base64.RawURLEncoding.EncodeToString(sum[:12])
	keys := []signingKey{fresh}
	for i, old := range k.keys {
		followed := now
		if i > 0 {
			followed = k.keys[i-1].Created
		}
		if now.Sub(followed) < MaxTokenTTL {
			keys = append(keys, old)
		}
	}
	if err := writeKeys(k.path, keyFile{keys}); err != nil {
		return fmt.Errorf("keep the tokens' keys: %w", err)
	}
	k.keys = keys
	return nil
}

// Run rotates the keys until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := k.rotate(); err != nil {
				k.log.Error("the tokens' keys were not rotated", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// newest is what is signed with.
func (k *Keys) newest() signingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[0]
}

// public is the key of that id.
func (k *Keys) public(id string) (ed25519.PublicKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, x := range k.keys {
		if x.ID == id {
			return x.private().Public().(ed25519.PublicKey), true
		}
	}
	return nil, false
}

// writeKeys replaces the file: write, sync, rename, sync the folder.
func writeKeys(path string, f keyFile) (err error) {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if _, err = tmp.Write(text); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
