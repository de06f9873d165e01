package auth_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// The text for the log has the values that lead to the cause. The text of the error, which the
// client receives, does not. The test runs in a bubble, whose clock starts at 2000-01-01T00:00:00Z,
// which is 946684800.
func TestLogDetail(t *testing.T) {
	long := strings.Repeat("x", 200)
	one, other := must(auth.Secret(secret)), must(auth.PublicKey(pkix(&rsaKey.PublicKey)))
	strict := auth.Config{Keys: []auth.Key{one}, Issuer: "https://b.example", Audience: "presence"}
	two := auth.Config{Keys: []auth.Key{other, one.WithKID("k1")}}
	print := newJWT(t, two).Fingerprint()
	for _, c := range []struct {
		config              auth.Config
		token, text, detail string
	}{
		{auth.Config{}, sign(`{"alg":"HS256"}`, alice, []byte("another")), "signature mismatch", `no key verifies it, 1 tried (alg "HS256", no kid, key fingerprint secret-b001d0cbee711c9d)`},
		{two, sign(`{"alg":"HS256","kid":"k2"}`, alice, []byte("another")), "signature mismatch", `no key verifies it, 1 tried (alg "HS256", kid "k2", key fingerprint ` + print + `)`},
		{two, sign(`{"alg":"ES256","kid":"k2"}`, alice, ecKey), "algorithm not accepted", `alg "ES256", kid "k2" (accepted HS256, PS256, RS256)`},
		{auth.Config{}, "eyJhbGciOiJOb25lIn0." + hs256(alice)[21:], "algorithm not accepted", `alg "None", no kid (accepted HS256)`},
		{auth.Config{}, "eyJhbGciOjF9." + hs256(alice)[21:], "algorithm not accepted", `alg not a string, no kid (accepted HS256)`},
		{auth.Config{}, sign(`{"alg":"HS256","kid":"`+hs256(alice)+`"}`, alice, []byte("another")), "signature mismatch",
			`no key verifies it, 1 tried (alg "HS256", kid "[token]", key fingerprint secret-b001d0cbee711c9d)`},
		{auth.Config{}, sign(`{"alg":"HS256","kid":"`+long+`"}`, alice, []byte("another")), "signature mismatch",
			`no key verifies it, 1 tried (alg "HS256", kid "` + long[:64] + `…", key fingerprint secret-b001d0cbee711c9d)`},
		{auth.Config{}, sign(`{"alg":"HS256","kid":"`+strings.Repeat("x", 257)+`"}`, alice, []byte("another")), "signature mismatch",
			`no key verifies it, 1 tried (alg "HS256", kid of 257 bytes, key fingerprint secret-b001d0cbee711c9d)`},
		{strict, hs256(`{"sub":"a","iss":"https://a.example","aud":"presence"}`), "wrong issuer", `"https://a.example" (required "https://b.example")`},
		{strict, hs256(`{"sub":"a","iss":"` + long + `","aud":"presence"}`), "wrong issuer", `"` + long[:128] + `…" (required "https://b.example")`},
		{strict, hs256(`{"sub":"a","aud":"presence"}`), "wrong issuer", `none (required "https://b.example")`},
		{strict, hs256(`{"sub":"a","iss":"https://b.example","aud":"web"}`), "wrong audience", `"web" (required "presence")`},
		{strict, hs256(`{"sub":"a","iss":"https://b.example","aud":["1","2","3","4","5","6"]}`), "wrong audience", `"1", "2", "3", "4" and 2 more (required "presence")`},
		{strict, hs256(`{"sub":"a","iss":"https://b.example"}`), "wrong audience", `none (required "presence")`},
		{auth.Config{}, hs256(`{"sub":"a","exp":946677590}`), "expired", `exp 1999-12-31T21:59:50Z is 2h0m10s ago (server time 2000-01-01T00:00:00Z)`},
		{auth.Config{}, hs256(`{"sub":"a","exp":946677590,"iat":946673990.5}`), "expired", `exp 1999-12-31T21:59:50Z is 2h0m10s ago, iat 1999-12-31T20:59:50Z (server time 2000-01-01T00:00:00Z)`},
		{auth.Config{}, hs256(`{"sub":"a","exp":946677590,"iat":"soon"}`), "expired", `exp 1999-12-31T21:59:50Z is 2h0m10s ago (server time 2000-01-01T00:00:00Z)`},
		{auth.Config{}, hs256(`{"sub":"a","nbf":946684900.2}`), "not valid yet", `nbf 2000-01-01T00:01:40Z is in 1m40s (server time 2000-01-01T00:00:00Z)`},
		{auth.Config{}, hs256(`{"sub":1}`), "sub must be a string", ""},
		{auth.Config{}, "x", "not a JWT", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := newJWT(t, c.config).Authenticate(bearer(c.token))
			text := "invalid token: " + c.text
			detail := text
			if c.detail != "" {
				detail += ": " + c.detail
			}
			if err == nil || err.Error() != text || auth.LogDetail(err) != detail {
				t.Errorf("got %v and in the log\n     %s\nwant %s", err, auth.LogDetail(err), detail)
			}
			if got := auth.LogDetail(fmt.Errorf("wrapped: %w", err)); got != "wrapped: "+detail {
				t.Errorf("wrapped: got %s, want the same detail", got)
			}
		})
	}
	if got := auth.LogDetail(errors.New("another")) + auth.LogDetail(nil); got != "another" {
		t.Errorf("other errors: got %q", got)
	}
}

// If the JWK Set decides, the text for the log has its URL and the reason why it was not fetched.
func TestLogDetailOfJWKS(t *testing.T) {
	want := func(w *jwksTest, header, want string) {
		w.t.Helper()
		_, err := w.Authenticate(bearer(sign(header, alice, edKey)))
		if got := auth.LogDetail(err); got != want {
			w.t.Errorf("%s: got %s\nwant %s", header, got, want)
		}
	}
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		time.Sleep(time.Minute)
		want(w, `{"alg":"EdDSA","kid":"2"}`, `invalid token: signed with an unknown key: alg "EdDSA", kid "2" (key fingerprint http://:0)`)
	})
	withIssuer(t, false, func(t *testing.T, w *jwksTest) {
		want(w, `{"alg":"EdDSA","kid":"2"}`, `keys unavailable: JWK Set http://:0 not fetched: EOF`)
	})
}
