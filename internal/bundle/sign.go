package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// signatureFile stands behind the statement in a bundle that is signed.
const signatureFile = "sociable.sig.json"

// maxSignature bounds it.
const maxSignature = 64 << 10

// Signature vouches for a statement, and with it for every blob and everything
// else that it names, since it has their digests.
type Signature struct {
	Statement digest.Digest `json:"statement"`
	Key       digest.Digest `json:"key"`     // of the public key's PKIX form
	Ed25519   []byte        `json:"ed25519"` // of what signed gives
}

// signed is what the signature is of: no other program signs such a text.
func signed(statement digest.Digest) []byte {
	return []byte("sociable bundle 1\n" + statement.String() + "\n")
}

// ParsePrivateKey reads an ed25519 key from PEM (PKCS#8), as openssl genpkey
// -algorithm ed25519 makes it.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("holds no PEM; make a key with: openssl genpkey -algorithm ed25519 -out KEY")
	case block.Type == "PUBLIC KEY":
		return nil, errors.New("holds a public key; the private one signs")
	case block.Type != "PRIVATE KEY":
		return nil, fmt.Errorf("holds a %.40q, which is not an ed25519 key in PKCS#8 without a passphrase", block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("holds a private key that is not readable: %w", err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a %T, want ed25519: openssl genpkey -algorithm ed25519 -out KEY", key)
	}
	return private, nil
}

// ParsePublicKey reads an ed25519 key from PEM (PKIX), as openssl pkey -pubout
// writes it.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("holds no PEM; write it with: openssl pkey -in KEY -pubout")
	case block.Type == "PRIVATE KEY":
		return nil, errors.New("holds a private key, which has no place here; write the public one with: openssl pkey -in KEY -pubout")
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("holds a %.40q, want a PUBLIC KEY: openssl pkey -in KEY -pubout", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("holds a public key that is not readable: %w", err)
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("holds a %T, want ed25519", key)
	}
	return public, nil
}

// KeyID is the digest of the key's PKIX form: sha256sum of openssl pkey -pubin
// -outform DER.
func KeyID(key ed25519.PublicKey) (digest.Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return digest.FromBytes(der), nil
}

// sign makes the signature of a statement.
func sign(statement digest.Digest, key ed25519.PrivateKey) (*Signature, error) {
	id, err := KeyID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Signature{statement, id, ed25519.Sign(key, signed(statement))}, nil
}

// parseSignature reads a signature file. ErrBundle.
func parseSignature(text []byte) (*Signature, error) {
	x := new(Signature)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(x); err != nil {
		return nil, unsound("%s: %v", signatureFile, err)
	}
	for _, s := range []digest.Digest{x.Statement, x.Key} {
		if _, err := oci.ParseDigest(s.String()); err != nil {
			return nil, unsound("%s: %v", signatureFile, err)
		}
	}
	if len(x.Ed25519) != ed25519.SignatureSize {
		return nil, unsound("%s: a signature of %d bytes, want %d", signatureFile, len(x.Ed25519), ed25519.SignatureSize)
	}
	return x, nil
}

// ErrSignature says that a signature is not one by the key that it names.
var ErrSignature = errors.New("the bundle's signature is not by the key that it names: it, or the statement, was changed")

// Trust says whether x is by one of keys, which are by their KeyID: known is
// false for a key that is not among them. ErrSignature.
func (x *Signature) Trust(keys map[digest.Digest]ed25519.PublicKey) (known bool, err error) {
	key, ok := keys[x.Key]
	if !ok {
		return false, nil
	}
	if !ed25519.Verify(key, signed(x.Statement), x.Ed25519) {
		return false, ErrSignature
	}
	return true, nil
}
