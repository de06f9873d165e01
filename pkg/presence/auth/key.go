package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Key verifies tokens and determines the accepted algorithms. The zero Key is invalid: create one
// with [Secret], [PublicKey] or [JWKS].
type Key struct {
	// algorithms are the accepted values of alg.
	algorithms []string

	// find returns the key that verifies a token with one of the algorithms and with that kid, in a
	// type that the parser accepts. kid is empty if the token has none. Authenticate returns its
	// error unchanged.
	find func(ctx context.Context, alg, kid string) (any, error)

	// ready waits until a first set of keys is available, or returns the reason why there is none.
	// Nil means that the key is always available.
	ready func(ctx context.Context) error
}

// Secret returns the key of HS256 tokens. It needs at least 32 bytes (RFC 7518 section 3.2). They
// should be random: an attacker can guess a password offline from one token. The bytes are copied.
func Secret(secret []byte) (Key, error) {
	if len(secret) < 32 {
		return Key{}, fmt.Errorf("auth: the secret has %d bytes, minimum 32", len(secret))
	}
	return single(bytes.Clone(secret), "HS256"), nil
}

// PublicKey returns the key of tokens that are signed with the private half. file is one PEM block:
// a public key (PKIX, or PKCS #1 for RSA) or a certificate. Of a certificate only the key is used,
// not the dates.
//
//	RSA, at least 2048 bits   RS256, PS256
//	P-256                     ES256
//	Ed25519                   EdDSA
//
// Any other key is an error.
func PublicKey(file []byte) (Key, error) {
	block, rest := pem.Decode(file)
	if block == nil {
		return Key{}, errors.New("auth: the public key is not PEM")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, errors.New("auth: more than one PEM block where one public key is expected")
	}
	key, err := public(block)
	if err != nil {
		return Key{}, fmt.Errorf("auth: read public key: %w", err)
	}
	algorithms := fits(key)
	if algorithms == nil {
		return Key{}, errors.New("auth: the public key must be RSA of at least 2048 bits, P-256 or Ed25519")
	}
	return single(key, algorithms...), nil
}

// single returns a Key that ignores the kid of a token.
func single(key any, algorithms ...string) Key {
	return Key{algorithms: algorithms, find: func(context.Context, string, string) (any, error) { return key, nil }}
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
		return nil, errors.New("it is a private key: a public key is required")
	}
	return nil, fmt.Errorf("unknown PEM block type %q", block.Type)
}

// fits returns the algorithms that a public key may verify, none for a weak key or one of another
// kind. The parser checks only the Go type of a key, not its curve or length.
func fits(key any) []string {
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
