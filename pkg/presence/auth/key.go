package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Key verifies tokens and determines the accepted algorithms. The zero Key is invalid. Create a Key
// with [Secret], [PublicKey] or [JWKS].
type Key struct {
	// algorithms are the accepted values of the alg header.
	algorithms []string

	// find returns the key that verifies a token with this algorithm and this kid, in a type that
	// the parser accepts. alg is one of algorithms. kid is empty if the token has none.
	// Authenticate returns the error of find unchanged.
	find func(ctx context.Context, alg, kid string) (any, error)

	// ready waits until the first set of keys is available, or returns the reason why there is
	// none. A nil ready means that the key is always available.
	ready func(ctx context.Context) error

	fingerprint string // result of JWT.Fingerprint
}

// Secret returns a Key for HS256 tokens. secret needs at least 32 bytes (RFC 7518 section 3.2). The
// bytes should be random, because an attacker that has one token can guess a password offline.
// Secret copies the bytes.
func Secret(secret []byte) (Key, error) {
	if len(secret) < 32 {
		return Key{}, fmt.Errorf("auth: secret too short (%d bytes, minimum 32)", len(secret))
	}
	return single(bytes.Clone(secret), "secret-"+digest(secret), "HS256"), nil
}

// digest returns the first 8 bytes of the SHA-256 hash of a key, in hexadecimal digits. Any node of
// a cluster may see it. It does not reveal a secret: the secret has at least 32 bytes, and an
// attacker that can guess it can also check the guesses with any token. The prefix makes sure that
// no other protocol uses the same hash.
func digest(key []byte) string {
	sum := sha256.Sum256(append([]byte("presence key fingerprint\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// PublicKey returns a Key for tokens that are signed with the matching private key. file contains
// one PEM block: a public key (PKIX, or PKCS #1 for RSA) or a certificate. PublicKey uses only the
// key of a certificate and ignores its dates.
//
//	RSA, at least 2048 bits   RS256, PS256
//	P-256                     ES256
//	Ed25519                   EdDSA
//
// Any other key is an error.
func PublicKey(file []byte) (Key, error) {
	block, rest := pem.Decode(file)
	if block == nil {
		return Key{}, errors.New("auth: public key not in PEM format")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, errors.New("auth: more than one PEM block: expected one public key")
	}
	key, err := public(block)
	if err != nil {
		return Key{}, fmt.Errorf("auth: parse public key: %w", err)
	}
	algorithms := algorithmsFor(key)
	if algorithms == nil {
		return Key{}, errors.New("auth: unsupported public key: must be RSA of at least 2048 bits, P-256 or Ed25519")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return Key{}, fmt.Errorf("auth: encode public key: %w", err)
	}
	return single(key, "public-"+digest(der), algorithms...), nil
}

// single returns a Key that verifies all tokens with the same key. It ignores their kid.
func single(key any, fingerprint string, algorithms ...string) Key {
	return Key{algorithms: algorithms, fingerprint: fingerprint, find: func(context.Context, string, string) (any, error) { return key, nil }}
}

func public(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("private key found: expected a public key")
	}
	return nil, fmt.Errorf("unknown PEM block type %q", block.Type)
}

// algorithmsFor returns the algorithms that a public key may verify, or nil for a weak or
// unsupported key. The parser checks only the Go type of a key, so this function checks its curve
// and length.
func algorithmsFor(key any) []string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= 2048 { // RFC 7518 section 3.3
			return []string{"RS256", "PS256"}
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return []string{"ES256"}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}
