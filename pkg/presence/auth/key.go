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

// Key is what tokens are verified with, and which algorithms count. The zero
// Key is none; [Secret], [PublicKey] and [JWKS] make one.
type Key struct {
	// algorithms are the values of alg that are accepted at all.
	algorithms []string

	// find returns what a token of one of the algorithms, and of that kid (""
	// if it has none), is verified with, as the parser takes it; or an error
	// for Authenticate to return.
	find func(ctx context.Context, alg, kid string) (any, error)

	// ready, if set, waits until there is a first answer to find keys in, or
	// returns why there is none.
	ready func(ctx context.Context) error
}

// Secret is the key of HS256 tokens, at least 32 bytes of it (RFC 7518 section
// 3.2). They should be random: a password can be guessed offline from one token.
// The bytes are copied.
func Secret(secret []byte) (Key, error) {
	if len(secret) < 32 {
		return Key{}, fmt.Errorf("auth: the secret has %d bytes, and needs 32", len(secret))
	}
	return single(bytes.Clone(secret), "HS256"), nil
}

// PublicKey is the key of tokens that are signed with its private half. file is
// one PEM block, a public key (PKIX, or PKCS #1 for RSA) or a certificate, of
// which only the key counts, not the dates. RSA of at least 2048 bits verifies
// RS256 and PS256, P-256 ES256, and Ed25519 EdDSA; there is no other.
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

// single is the one key there is, whatever kid a token has.
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
		return nil, errors.New("it is a private key, which belongs to the issuer alone")
	}
	return nil, fmt.Errorf("a PEM block of type %q is not known", block.Type)
}

// fits returns the algorithms that a public key may verify, none for one that
// is too weak or of another kind. The parser looks at a key's Go type only, not
// at its curve or length.
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
