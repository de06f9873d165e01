package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// BenchmarkAuthenticate measures the verification of an HS256 token:
//
//	go test -run '^$' -bench BenchmarkAuthenticate -benchmem ./pkg/presence/auth
func BenchmarkAuthenticate(b *testing.B) {
	for _, bb := range []struct {
		name string
		c    auth.Claims
	}{
		// The benchmarks of pkg/presence use this token.
		{"plain", auth.Claims{Sub: "user-12345", Name: "user-12345", Join: []string{"*"}}},
		{"info", auth.Claims{Sub: "user-12345", Name: "Ada Lovelace", SID: "c29tZSBzaWduLWlu", TTL: time.Hour,
			Join: []string{"doc-*", "lobby"}, Send: []string{"doc-*"},
			Info: json.RawMessage(`{"avatar":"https://cdn.example/ada.png","color":"teal","team":{"id":7,"name":"analysts"}}`)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			j, r := newJWT(b, auth.Config{}), bearer(must(auth.Mint(secret, bb.c)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.Authenticate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkForgedToken measures the rejection of a token that none of the maximum number of keys
// verifies:
//
//	go test -run '^$' -bench BenchmarkForgedToken ./pkg/presence/auth
func BenchmarkForgedToken(b *testing.B) {
	for _, bb := range []struct {
		alg   string
		key   auth.Key
		forge any
	}{
		{"HS256", must(auth.Secret(secret)), []byte("another")},
		{"RS256", must(auth.PublicKey(pkix(&rsaKey.PublicKey))), must(rsa.GenerateKey(rand.Reader, 2048))},
		{"ES256", must(auth.PublicKey(pkix(&ecKey.PublicKey))), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))},
		{"EdDSA", must(auth.PublicKey(pkix(edKey.Public()))), ed25519.NewKeyFromSeed(make([]byte, 32))},
	} {
		b.Run(bb.alg, func(b *testing.B) {
			j := newJWT(b, auth.Config{Keys: slices.Repeat([]auth.Key{bb.key}, 16)})
			r := bearer(sign(`{"alg":"`+bb.alg+`","kid":"?"}`, alice, bb.forge))
			for b.Loop() {
				if _, err := j.Authenticate(r); auth.FailureReason(err) != "signature" {
					b.Fatal(err)
				}
			}
		})
	}
}
