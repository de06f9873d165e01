package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/auth"
	"github.com/golang-jwt/jwt/v5"
)

// A token is accepted if one of several keys verifies it. Its kid is only a hint for a key from a
// file. Each key determines its own algorithms.
func TestSeveralKeys(t *testing.T) {
	old, other := []byte("an older secret of 32 or so bytes"), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	file := pkix(&rsaKey.PublicKey)
	j := newJWT(t, auth.Config{Keys: []auth.Key{
		must(auth.Secret(secret)).WithKID("2025"),
		must(auth.Secret(old)).WithKID("2024"),
		must(auth.PublicKey(file)).WithKID("rsa"),
		must(auth.PublicKey(pkix(&ecKey.PublicKey))).WithKID("2025"),
		must(auth.PublicKey(pkix(&other.PublicKey))),
	}})
	for _, tt := range []struct {
		header string
		key    any
		want   string // reason; empty: accepted
	}{
		{`{"alg":"HS256"}`, secret, ""},
		{`{"alg":"HS256"}`, old, ""},
		{`{"alg":"HS256","kid":""}`, old, ""},
		{`{"alg":"HS256","kid":"2024"}`, old, ""},
		{`{"alg":"HS256","kid":"2025"}`, old, ""}, // the files were renamed in between
		{`{"alg":"HS256","kid":"?"}`, old, ""},
		{`{"alg":"RS256"}`, rsaKey, ""},
		{`{"alg":"PS256","kid":"2025"}`, rsaKey, ""},
		{`{"alg":"ES256","kid":"2025"}`, ecKey, ""},
		{`{"alg":"ES256","kid":"2025"}`, other, ""},
		{`{"alg":"ES256"}`, other, ""},

		{`{"alg":"HS256"}`, []byte("another"), "signature"},
		{`{"alg":"HS256","kid":"2024"}`, []byte("another"), "signature"},
		{`{"alg":"HS256","kid":"rsa"}`, file, "signature"}, // the public key is no secret
		{`{"alg":"HS256","kid":"2024"}`, []byte{}, "signature"},
		{`{"alg":"HS512","kid":"2024"}`, old, "algorithm"},
		{`{"alg":"RS512","kid":"rsa"}`, rsaKey, "algorithm"},
		{`{"alg":"RS256","kid":"2024"}`, weakRSA, "signature"},
		{`{"alg":"EdDSA","kid":"2024"}`, edKey, "algorithm"},
		{`{"alg":"none","kid":"2024"}`, jwt.UnsafeAllowNoneSignatureType, "algorithm"},
	} {
		u, err := j.Authenticate(bearer(sign(tt.header, alice, tt.key)))
		if got := auth.FailureReason(err); got != tt.want || (u.ID == "alice") != (err == nil) {
			t.Errorf("%s: got user %q, reason %q, %v; want %q", tt.header, u.ID, got, err, tt.want)
		}
	}
}

// Replace exchanges all keys at once, also while requests are authenticated. An error changes
// nothing.
func TestReplace(t *testing.T) {
	var keys []auth.Key
	for i := range 3 {
		keys = append(keys, must(auth.Secret([]byte(fmt.Sprint(i, strings.Repeat(" ", 32))))))
	}
	token := func(i int) string {
		return must(auth.Mint([]byte(fmt.Sprint(i, strings.Repeat(" ", 32))), auth.Claims{Sub: "alice"}))
	}
	j := newJWT(t, auth.Config{Keys: keys[:2]})
	accepted := func() (all []bool) {
		for i := range keys {
			_, err := j.Authenticate(bearer(token(i)))
			all = append(all, err == nil)
		}
		return all
	}
	for _, step := range []struct {
		keys []auth.Key
		fail bool
		want []bool
	}{
		{keys[1:3], false, []bool{false, true, true}},
		{nil, true, []bool{false, true, true}},
		{[]auth.Key{keys[0], {}}, true, []bool{false, true, true}},
		{keys[2:3], false, []bool{false, false, true}},
	} {
		print := j.Fingerprint()
		if err := j.Replace(step.keys...); (err != nil) != step.fail || (j.Fingerprint() == print) != step.fail {
			t.Errorf("%d keys: got %v and fingerprint %q after %q", len(step.keys), err, j.Fingerprint(), print)
		}
		if got := accepted(); !reflect.DeepEqual(got, step.want) {
			t.Errorf("after %d keys: accepted %v, want %v", len(step.keys), got, step.want)
		}
	}

	// Key 2 remains, so each of its tokens is accepted.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				if _, err := j.Authenticate(bearer(token(2))); err != nil {
					t.Errorf("during Replace: got %v, want a user", err)
					return
				}
			}
		})
	}
	for i := range 500 {
		if err := j.Replace(keys[i%2], keys[2]); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}

// A token that a key from a file verifies does not wait for the JWK Set. Other tokens do, if the
// set has no key with their kid.
func TestJWKSAndOtherKeys(t *testing.T) {
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.setKeys(named("1", edKey))
		if err := w.Replace(w.key, must(auth.Secret(secret)), must(auth.PublicKey(pkix(&ecKey.PublicKey))).WithKID("1")); err != nil {
			t.Fatal(err)
		}
		try := func(header string, key any, want string, took time.Duration) {
			t.Helper()
			start := time.Now()
			_, err := w.Authenticate(bearer(sign(header, alice, key)))
			if got := auth.FailureReason(err); got != want || time.Since(start) != took {
				t.Errorf("%s: got %q after %v, %v; want %q after %v", header, got, time.Since(start), err, want, took)
			}
		}
		try(`{"alg":"EdDSA","kid":"1"}`, edKey, "", 0)
		try(`{"alg":"HS256","kid":"?"}`, secret, "", 0)
		try(`{"alg":"HS256","kid":"?"}`, []byte("another"), "signature", 0)
		try(`{"alg":"ES256","kid":"?"}`, ecKey, "", 0)
		try(`{"alg":"ES256","kid":"1"}`, ecKey, "", 0)
		try(`{"alg":"ES256"}`, ecKey, "", 0)
		try(`{"alg":"EdDSA","kid":"?"}`, edKey, "unknown_key", 5*time.Second)
		try(`{"alg":"ES256","kid":"?"}`, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "signature", 5*time.Second)

		w.setKeys(named("1", edKey), named("2", &ecKey.PublicKey))
		if err := w.Replace(w.key, must(auth.PublicKey(pkix(&rsaKey.PublicKey)))); err != nil {
			t.Fatal(err)
		}
		try(`{"alg":"ES256","kid":"2"}`, ecKey, "", 5*time.Second)
		w.respondWith(unreachable)
		try(`{"alg":"RS256","kid":"3"}`, weakRSA, "keys_unavailable", 5*time.Second)
		try(`{"alg":"RS256","kid":"3"}`, rsaKey, "", 0)

		// Without the JWK Set, its keys are not accepted.
		if err := w.Replace(must(auth.Secret(secret))); err != nil {
			t.Fatal(err)
		}
		try(`{"alg":"EdDSA","kid":"1"}`, edKey, "algorithm", 0)
	})
}

// Status counts the failed fetches. Refresh requests a fetch.
func TestJWKSStatus(t *testing.T) {
	withIssuer(t, false, func(t *testing.T, w *jwksTest) {
		status := func(when string, want auth.Status) {
			t.Helper()
			synctest.Wait()
			if got := w.Status(); got != want {
				t.Errorf("%s: got %+v, want %+v", when, got, want)
			}
		}
		begin := time.Now()
		status("after a failed fetch", auth.Status{HasJWKS: true, JWKSFailures: 1})
		w.setKeys(named("1", edKey))
		w.Refresh()
		w.Refresh()
		w.sleep(5 * time.Second)
		fetched := begin.Add(5 * time.Second)
		status("after a fetch", auth.Status{HasJWKS: true, JWKSFailures: 1, JWKSSuccess: fetched})
		w.respondWith(unreachable)
		w.sleep(5*time.Minute + 30*time.Second)
		status("after two failed fetches", auth.Status{HasJWKS: true, JWKSFailures: 3, JWKSSuccess: fetched})
		w.wantKnown("1")
		if got := w.fetches.Load(); got != 4 {
			t.Errorf("got %d fetches, want 4", got)
		}
		if err := w.Replace(must(auth.Secret(secret))); err != nil {
			t.Fatal(err)
		}
		w.Refresh()
		status("without JWKS", auth.Status{})
	})
	withIssuer(t, false, func(t *testing.T, w *jwksTest) {
		if got := w.Status(); !got.HasJWKS {
			t.Errorf("before the first fetch: got %+v", got)
		}
	})
}

// Each failure has a reason of the closed list, and the test has each reason. It has the user if
// the signature was verified.
func TestFailureReason(t *testing.T) {
	const exp = `,"exp":4102444800`
	key := must(auth.JWKS(t.Context(), "http://127.0.0.1:1/", slog.New(slog.DiscardHandler)))
	j := newJWT(t, auth.Config{Keys: []auth.Key{key, must(auth.Secret(secret))}, Issuer: "us", Audience: "p", QueryToken: true})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	missing := map[string]bool{"other": true, "unknown_key": true} // below, and in TestJWKSAndOtherKeys
	for _, reason := range auth.Reasons {
		missing[reason] = true
	}
	claims := func(claims string) string { return hs256(`{"sub":"a","iss":"us","aud":"p"` + claims + `}`) }
	for _, tt := range []struct{ token, want, user string }{
		{claims(exp), "", ""},
		{"", "no_token", ""},
		{"x", "malformed", ""},
		{"a b", "malformed", ""},
		{sign(`{"alg":"HS256","crit":[]}`, alice, secret), "malformed", ""},
		{sign(`{"alg":"HS256","kid":1}`, alice, secret), "malformed", ""},
		{strings.Repeat("x", 8<<10+1), "too_long", ""},
		{sign(`{"alg":"HS512"}`, alice, secret), "algorithm", ""},
		{sign(`{"alg":"HS256"}`, alice, []byte("another")), "signature", ""},
		{claims(`,"exp":1`), "expired", "a"},
		{claims(`,"nbf":4102444800`), "not_yet_valid", "a"},
		{hs256(`{"sub":"a","aud":"p"}`), "issuer", "a"},
		{hs256(`{"sub":"a","iss":"us"}`), "audience", "a"},
		{claims(`,"sub":""`), "claim", ""},
		{claims(`,"sub":7`), "claim", ""},
		{claims(`,"sub":"a\u200b"`), "claim", ""},
		{claims(`,"name":"` + strings.Repeat("a", 129) + `"`), "claim", "a"},
		{sign(`{"alg":"RS256"}`, alice, rsaKey), "keys_unavailable", ""},
	} {
		r := httptest.NewRequest("GET", "/events", nil)
		if tt.token != "" {
			r = bearer(tt.token)
		}
		if tt.want == "keys_unavailable" {
			r = r.WithContext(gone) // do not wait for the next fetch
		}
		_, err := j.Authenticate(r)
		got := auth.FailureReason(err)
		if got != tt.want {
			t.Errorf("%.40s: got %q for %v, want %q", tt.token, got, err, tt.want)
		}
		if wrapped := auth.FailureReason(fmt.Errorf("wrapped: %w", err)); err != nil && wrapped != got {
			t.Errorf("%v, wrapped: got %q, want %q", err, wrapped, got)
		}
		if user := auth.VerifiedUser(err); user != tt.user {
			t.Errorf("%v: got the user %q, want %q", err, user, tt.user)
		}
		delete(missing, got)
	}
	for _, err := range []error{fmt.Errorf("database down"), fmt.Errorf("%w: session", auth.ErrBadToken)} {
		if got := auth.FailureReason(err); got != "other" {
			t.Errorf("%v: got %q, want other", err, got)
		}
	}
	if len(missing) != 2 || len(auth.Reasons) != 13 {
		t.Errorf("got no failure with the reasons %v, %d reasons; want 13", missing, len(auth.Reasons))
	}
}
