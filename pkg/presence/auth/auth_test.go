package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/presence/pkg/presence/auth"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Keys that all tests share.
var (
	secret  = []byte("thirty-two bytes of secret, just")
	rsaKey  = must(rsa.GenerateKey(rand.Reader, 2048))
	weakRSA = must(rsa.GenerateKey(rand.Reader, 1024))
	ecKey   = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384    = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	edKey   = ed25519.NewKeyFromSeed(secret)
)

const alice = `{"sub":"alice"}`

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newJWT returns a JWT with the settings c. If c has no key, the JWT uses the secret.
func newJWT(t testing.TB, c auth.Config) *auth.JWT {
	t.Helper()
	j, err := auth.New(c)
	if err != nil {
		c.Keys = []auth.Key{must(auth.Secret(secret))}
		j = must(auth.New(c))
	}
	return j
}

// sign returns a token with exactly this header and payload, signed with key. The alg of the header
// selects the algorithm.
func sign(header, payload string, key any) string {
	_, alg, _ := strings.Cut(header, `"alg":"`)
	alg, _, _ = strings.Cut(alg, `"`)
	base64 := base64.RawURLEncoding.EncodeToString
	text := base64([]byte(header)) + "." + base64([]byte(payload))
	return text + "." + base64(must(jwt.GetSigningMethod(alg).Sign(text, key)))
}

func hs256(payload string) string { return sign(`{"alg":"HS256"}`, payload, secret) }

func bearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "/events", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// check fails the test unless err wraps want and its text contains text.
func check(t testing.TB, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want %v: %s", err, want, text)
	}
}
