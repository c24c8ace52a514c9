package main

import (
	"crypto/ed25519"
	"fmt"
	"os"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/web"
)

// ImportConfig is what is taken from bundles.
type ImportConfig struct {
	TrustedKeys []string `yaml:"trusted_keys"` // files: PEM, ed25519, public

	trusted []web.TrustedKey // what these hold
}

// readTrusted takes in the keys that are trusted.
func (c *Config) readTrusted(bad *findings) {
	c.Import.trusted = nil
	for i, file := range c.Import.TrustedKeys {
		at := fmt.Sprintf("import.trusted_keys[%d]", i)
		key, err := readTrustedKey(file)
		if err != nil {
			bad.add(c.origin(at), "import.trusted_keys: %v", err)
			continue
		}
		c.Import.trusted = append(c.Import.trusted, key)
	}
}

func readTrustedKey(file string) (web.TrustedKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return web.TrustedKey{}, err
	}
	key, err := bundle.ParsePublicKey(text)
	if err != nil {
		return web.TrustedKey{}, fmt.Errorf("%s %w", file, err)
	}
	id, err := bundle.KeyID(key)
	return web.TrustedKey{Name: file, ID: id, Key: key}, err
}

// readSigningKey reads the key that export signs with.
func readSigningKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--sign: %w", err)
	}
	key, err := bundle.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("--sign: %s %w", file, err)
	}
	return key, nil
}
