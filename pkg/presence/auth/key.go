package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Key verifies tokens and determines the accepted algorithms. The zero Key is invalid. Create a Key
// with [Secret], [PublicKey] or [JWKS].
type Key struct {
	// algorithms are the accepted values of the alg header.
	algorithms []string

	// verifies is the key in a type that the parser accepts, or nil if set is not nil.
	verifies jwt.VerificationKey

	kid         string  // selects this key; empty if it has no ID
	set         *keySet // of JWKS
	fingerprint string  // result of JWT.Fingerprint
}

// WithKID returns the same key with a key ID. A token whose kid header equals it is verified with
// this key first. The kid is only a hint (RFC 7515 section 4.1.4): if the key does not verify the
// token, the other keys are tried. The ID therefore decides only how fast a token is verified.
//
// A key of [JWKS] has the IDs of its set, and WithKID does not change it.
func (k Key) WithKID(kid string) Key {
	k.kid = kid
	return k
}

// Secret returns a Key for HS256 tokens. secret needs at least 32 bytes (RFC 7518 section 3.2). The
// bytes should be random, because an attacker that has one token can guess a password offline.
// Secret copies the bytes. It refuses a PEM file, because a public key is no secret.
func Secret(secret []byte) (Key, error) {
	if len(secret) < 32 {
		return Key{}, fmt.Errorf("auth: secret too short (%d bytes, minimum 32)", len(secret))
	}
	if bytes.HasPrefix(secret, []byte("-----BEGIN ")) { // a certificate is public
		return Key{}, errors.New("auth: secret is a PEM file: use it as a public key")
	}
	return Key{algorithms: []string{"HS256"}, verifies: bytes.Clone(secret), fingerprint: "secret-" + digest(secret)}, nil
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
	return Key{algorithms: algorithms, verifies: key, fingerprint: "public-" + digest(der)}, nil
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

// JWKS returns a Key that fetches its keys from the JWK Set (RFC 7517) at address. The address must
// be an http or https URL that does not redirect.
//
// JWKS uses the signature keys of the set for RS256, PS256, ES256 and EdDSA, if they meet the
// requirements of [PublicKey]. It ignores all other keys.
//
// JWKS fetches the set:
//
//   - immediately, in the background;
//   - every 5 minutes;
//   - 30 s after a failed fetch;
//   - when a token has a kid that is not in the set. The token waits for that fetch, which starts
//     at least 5 s after the previous one.
//
// If a fetch fails, the keys of the last successful fetch stay valid, and a token with an unknown
// kid is rejected with [ErrUnavailable]. A token without a kid is verified with each known key in
// turn. A token that another key of the [JWT] verifies does not wait for a fetch.
//
// JWKS does not wait for the first fetch. It returns an error only if address is not an http or
// https URL. ctx bounds the life of the goroutine that fetches the set. Failed fetches are logged
// to log; nil means [slog.Default].
func JWKS(ctx context.Context, address string, log *slog.Logger) (Key, error) {
	// Disable keep-alive connections, because they and their goroutines are not worth their cost if
	// a fetch runs only every few minutes.
	return jwks(ctx, address, log, &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true})
}

func jwks(ctx context.Context, address string, log *slog.Logger, transport http.RoundTripper) (Key, error) {
	set, err := newKeySet(ctx, address, log, transport)
	if err != nil {
		return Key{}, err
	}
	return Key{algorithms: setAlgorithms, set: set, fingerprint: set.public}, nil
}
