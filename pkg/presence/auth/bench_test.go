package auth_test

import (
	"encoding/json"
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
