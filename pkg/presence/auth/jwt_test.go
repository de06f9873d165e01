package auth_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/auth"
	"github.com/golang-jwt/jwt/v5"
)

// falseCookies returns n different session cookies.
func falseCookies(n int) (all string) {
	for i := range n {
		all += auth.HostCookieName + "=nonsense" + strconv.Itoa(i) + "; "
	}
	return all
}

func TestTokenSources(t *testing.T) {
	token := func(sub string) string { return hs256(`{"sub":"` + sub + `"}`) }
	const cookie, query = auth.HostCookieName + "=", "access_token="
	h, c, q := "Bearer "+token("header"), cookie+token("cookie"), query+token("query")
	for _, tt := range []struct {
		name          string
		header        []string
		cookie, query string
		user          string
		err           error
	}{
		{name: "no token", err: auth.ErrNoToken},
		{name: "header", header: []string{h}, user: "header"},
		{name: "header first", header: []string{h}, cookie: c, query: q, user: "header"},
		{name: "scheme in any case, several blanks", header: []string{"bEARER \t " + token("header")}, user: "header"},
		{name: "bad header, good cookie and query", header: []string{"Bearer nonsense"}, cookie: c, query: q, err: auth.ErrBadToken},
		{name: "scheme and blank", header: []string{"Bearer "}, cookie: c, err: auth.ErrBadToken},
		{name: "scheme only", header: []string{"Bearer"}, cookie: c, err: auth.ErrBadToken},
		{name: "empty header", header: []string{""}, cookie: c, err: auth.ErrBadToken},
		{name: "repeated header", header: []string{h, h}, cookie: c, err: auth.ErrBadToken},
		{name: "repeated header, other scheme first", header: []string{"Basic dTpw", h}, err: auth.ErrBadToken},
		{name: "two tokens in one header", header: []string{h + ", " + h}, err: auth.ErrBadToken},
		{name: "another scheme", header: []string{"Basic dTpw"}, cookie: c, user: "cookie"},
		{name: "a longer scheme", header: []string{"Bearer" + h}, err: auth.ErrNoToken},
		{name: "cookie before query", cookie: c, query: q, user: "cookie"},
		{name: "bad cookie", cookie: cookie + "nonsense", query: q, err: auth.ErrBadToken},
		{name: "good cookie, then a bad one", cookie: c + "; " + cookie + "nonsense", user: "cookie"},
		{name: "bad cookie, then a good one", cookie: cookie + "nonsense; " + c, user: "cookie"},
		{name: "two good cookies", cookie: c + "; " + cookie + token("other"), user: "cookie"},
		{name: "seven bad cookies, then a good one", cookie: falseCookies(7) + c, user: "cookie"},
		{name: "eight bad cookies, then a good one", cookie: falseCookies(8) + c, err: auth.ErrBadToken},
		{name: "many equal bad cookies, then a good one", cookie: strings.Repeat(cookie+"nonsense; ", 50) + c, user: "cookie"},
		{name: "eight empty cookies, then a good one", cookie: strings.Repeat(cookie+"; ", 8) + c, user: "cookie"},
		{name: "two bad cookies and a query", cookie: cookie + "nonsense; " + cookie + "x", query: q, err: auth.ErrBadToken},
		{name: "cookie of another name", cookie: auth.CookieName + "=" + token("cookie"), query: q, user: "query"},
		{name: "empty cookie", cookie: cookie + "; a=b", query: q, user: "query"},
		{name: "query", query: q, user: "query"},
		{name: "empty query", query: query, err: auth.ErrNoToken},
		{name: "repeated parameter", query: q + "&" + q, err: auth.ErrBadToken},
		{name: "line break in the query", query: q + "%0A", err: auth.ErrBadToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/events?"+tt.query, nil)
			r.Header["Authorization"] = tt.header
			r.Header.Set("Cookie", tt.cookie)
			u, err := newJWT(t, auth.Config{QueryToken: true}).Authenticate(r)
			check(t, err, tt.err, "")
			if u.ID != tt.user || (u.Session != "") != (tt.user == "cookie") {
				t.Errorf("got user %q with session %q, want %q", u.ID, u.Session, tt.user)
			}
		})
	}
	_, err := newJWT(t, auth.Config{}).Authenticate(httptest.NewRequest("GET", "/events?"+q, nil))
	check(t, err, auth.ErrNoToken, "")
}

func TestSessionIdentifiesCookie(t *testing.T) {
	session := func(token string) string {
		r := httptest.NewRequest("GET", "/events", nil)
		r.Header.Set("Cookie", auth.HostCookieName+"="+token)
		return must(newJWT(t, auth.Config{}).Authenticate(r)).Session
	}
	one, two := hs256(alice), hs256(`{"sub":"alice","sid":"2"}`)
	if a, b := session(one), session(two); a != session(one) || a == b || strings.Contains(one, a) {
		t.Errorf("got sessions %q and %q for one cookie, %q for another", a, session(one), b)
	}
}

func TestUser(t *testing.T) {
	lobby := []string{"lobby"}
	for payload, want := range map[string]auth.User{
		alice:                              {ID: "alice", Join: lobby, Send: lobby},
		`{"sub":"alice","exp":4102444800}`: {ID: "alice", Join: lobby, Send: lobby, Expires: time.Unix(4102444800, 0)},
		`{"sub":"ä","name":"Ä b","sid":"s","presence":{}}`: {ID: "ä", Name: "Ä b", SID: "s"},
		`{"sub":"a","presence":{"join":["doc-*","x"],"send":[],"admin":true,"info":{"b": [1.50, "<"],"a":9007199254740993}}}`: {
			ID: "a", Join: []string{"doc-*", "x"}, Admin: true, Info: json.RawMessage(`{"b":[1.50,"<"],"a":9007199254740993}`)},
		`{"sub":"a","presence":{"send":["*"],"info":"away"}}`: {ID: "a", Send: []string{"*"}, Info: json.RawMessage(`"away"`)},
		// Claim names must match exactly. If a claim is repeated, the last one counts.
		`{"sub":"a","Sub":"b","SUB":"c","presence":{"Admin":true}}`: {ID: "a"},
		`{"sub":"b","sub":"a"}`: {ID: "a", Join: lobby, Send: lobby},
		// A claim that is null counts as absent.
		`{"sub":"a","name":null,"sid":null,"iss":null,"aud":null,"exp":null,"nbf":null,"iat":null,"presence":null}`: {ID: "a", Join: lobby, Send: lobby},
		`{"sub":"a","presence":{"join":null,"send":["x"],"info":null,"admin":null}}`:                                {ID: "a", Send: []string{"x"}},
	} {
		if want.Info == nil {
			want.Info = json.RawMessage(`{}`)
		}
		got, err := newJWT(t, auth.Config{}).Authenticate(bearer(hs256(payload)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", payload, got, err, want)
		}
	}
}

// TestClaims runs in synctest bubbles, whose clock starts at 2000-01-01T00:00:00Z, which is
// 946684800.
func TestClaims(t *testing.T) {
	long := strings.Repeat("x", 1024)
	for payload, want := range map[string]string{
		`{"sub":"alice\ud800"}`:              "sub must be",
		`{"sub":"alice\u200b"}`:              "sub must be",
		`{"sub":"alice","exp":946684801}`:    "",
		`{"sub":"alice","exp":946684800.5}`:  "",
		`{"sub":"alice","exp":946684800}`:    "expired",
		`{"sub":"alice","exp":946684799.9}`:  "expired",
		`{"sub":"alice","exp":0}`:            "expired",
		`{"sub":"alice","exp":253402300799}`: "",
		`{"sub":"alice","exp":253402300800}`: "exp must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","exp":1e300}`:        "exp must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","exp":1e400}`:        "exp must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","exp":-1}`:           "exp must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","exp":-62135596800}`: "exp must be a NumericDate from 1970 to 9999", // the zero time.Time
		`{"sub":"alice","exp":null}`:         "",
		`{"sub":"alice","exp":[]}`:           "exp must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","exp":"4102444800"}`: "exp must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","exp":NaN}`:          "not a JWT",

		`{"sub":"alice","nbf":946684830}`: "",
		`{"sub":"alice","nbf":946684831}`: "not valid yet",
		`{"sub":"alice","nbf":1e18}`:      "nbf must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","nbf":"0"}`:       "nbf must be a NumericDate from 1970 to 9999",
		`{"sub":"alice","nbf":null}`:      "",
		`{"sub":"alice","iat":946685100}`: "", // 300 s in the future
		`{"sub":"alice","iat":1e300}`:     "",
		`{"sub":"alice","iat":"today"}`:   "",
		`{"sub":"alice","iat":null}`:      "",

		`{}`:                           "sub missing or empty",
		`null`:                         "sub missing or empty",
		`{"sub":""}`:                   "sub missing or empty",
		`{"sub":null}`:                 "sub missing or empty",
		`{"sub":7}`:                    "sub must be a string",
		`{"sub":["alice"]}`:            "sub must be a string",
		`{"sub":"` + long[:256] + `"}`: "",
		`{"sub":"` + long[:257] + `"}`: "sub must be",
		`{"sub":"a\nb"}`:               "sub must be",
		`{"sub":"a\u0085b"}`:           "sub must be",
		"{\"sub\":\"a\xff\"}":          "not a JWT",
		`{"sub":"a","name":"` + long[:128] + `"}`:                   "",
		`{"sub":"a","name":"` + long[:129] + `"}`:                   "name must be",
		`{"sub":"a","name":"` + long[:128] + `\u0000\ud800\u200b"}`: "",
		`{"sub":"a","name":{}}`:                                     "name must be a string",
		`{"sub":"a","sid":1}`:                                       "sid must be a string",
		`{"sub":"a","iss":1}`:                                       "iss must be a string",
		`{"sub":"a","aud":1}`:                                       "aud must be a string or a list of strings",
		`{"sub":"a","aud":[1]}`:                                     "aud must be a string or a list of strings",
		`{"sub":"a","aud":[null]}`:                                  "aud must be a string or a list of strings",
		`[]`:                                                        "not a JWT",
		`{"sub":"a"} {}`:                                            "not a JWT",

		`{"sub":"a","presence":["lobby"]}`:                      "presence must be an object",
		`{"sub":"a","presence":"lobby"}`:                        "presence must be an object",
		`{"sub":"a","presence":{"join":"lobby"}}`:               "presence.join must be a list of strings",
		`{"sub":"a","presence":{"join":[null]}}`:                "presence.join must be a list of strings",
		`{"sub":"a","presence":{"send":{}}}`:                    "presence.send must be a list of strings",
		`{"sub":"a","presence":{"send":[1]}}`:                   "presence.send must be a list of strings",
		`{"sub":"a","presence":{"admin":"true"}}`:               "presence.admin must be true or false",
		`{"sub":"a","presence":{"admin":1}}`:                    "presence.admin must be true or false",
		`{"sub":"a","presence":{"info":"` + long[:1022] + `"}}`: "",
		`{"sub":"a","presence":{"info":"` + long[:1023] + `"}}`: "info must be",
		`{"sub":"a","x":"` + strings.Repeat(long, 6) + `"}`:     "too long (",
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := newJWT(t, auth.Config{}).Authenticate(bearer(hs256(payload)))
			if want != "" {
				check(t, err, auth.ErrBadToken, want)
			} else if err != nil {
				t.Errorf("%.80s: got %v, want a user", payload, err)
			}
			if t.Failed() {
				t.Logf("of %.80s", payload)
			}
		})
	}
}

func TestIssuerAndAudience(t *testing.T) {
	for payload, want := range map[string]error{
		`{"sub":"a","iss":"us","aud":"presence"}`:       nil,
		`{"sub":"a","iss":"us","aud":["x","presence"]}`: nil,
		`{"sub":"a","iss":"us","aud":["x"]}`:            auth.ErrBadToken,
		`{"sub":"a","iss":"us","aud":[]}`:               auth.ErrBadToken,
		`{"sub":"a","iss":"us"}`:                        auth.ErrBadToken,
		`{"sub":"a","iss":"us","aud":null}`:             auth.ErrBadToken,
		`{"sub":"a","iss":null,"aud":"presence"}`:       auth.ErrBadToken,
		`{"sub":"a","iss":"US","aud":"presence"}`:       auth.ErrBadToken,
		`{"sub":"a","aud":"presence"}`:                  auth.ErrBadToken,
	} {
		_, err := newJWT(t, auth.Config{Issuer: "us", Audience: "presence"}).Authenticate(bearer(hs256(payload)))
		check(t, err, want, "")
	}
	if _, err := newJWT(t, auth.Config{}).Authenticate(bearer(hs256(`{"sub":"a","iss":"us","aud":"x"}`))); err != nil {
		t.Errorf("got %v, want any issuer and audience accepted", err)
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkix(key any) []byte { return pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key))) }

// certificate returns an expired certificate of ecKey.
func certificate() []byte {
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)}
	return pemOf("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, c, c, &ecKey.PublicKey, ecKey)))
}

func TestKeyDeterminesAlgorithm(t *testing.T) {
	keys := map[string]auth.Key{
		"secret":  must(auth.Secret(secret)),
		"RSA":     must(auth.PublicKey(pkix(&rsaKey.PublicKey))),
		"PKCS1":   must(auth.PublicKey(pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)))),
		"P-256":   must(auth.PublicKey(pkix(&ecKey.PublicKey))),
		"Ed25519": must(auth.PublicKey(pkix(edKey.Public()))),
		"cert":    must(auth.PublicKey(certificate())),
	}
	signers := map[string]any{
		"HS256": secret, "HS384": secret, "HS512": secret,
		"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey, "PS256": rsaKey, "PS384": rsaKey, "PS512": rsaKey,
		"ES256": ecKey, "ES384": p384, "EdDSA": edKey, "none": jwt.UnsafeAllowNoneSignatureType,
	}
	good := map[string][]string{
		"secret": {"HS256"}, "RSA": {"RS256", "PS256"}, "PKCS1": {"RS256", "PS256"},
		"P-256": {"ES256"}, "Ed25519": {"EdDSA"}, "cert": {"ES256"},
	}
	for name, key := range keys {
		var accepted []string
		for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "none"} {
			u, err := newJWT(t, auth.Config{Keys: []auth.Key{key}}).Authenticate(bearer(sign(`{"alg":"`+alg+`","kid":"any"}`, alice, signers[alg])))
			if err != nil {
				check(t, err, auth.ErrBadToken, "algorithm not accepted")
			} else if u.ID == "alice" {
				accepted = append(accepted, alg)
			}
		}
		if !reflect.DeepEqual(accepted, good[name]) {
			t.Errorf("key %s: accepted %v, want %v", name, accepted, good[name])
		}
	}
}

// Keys have the same fingerprint if they verify the same tokens. It shows neither a secret nor the
// password of a URL.
func TestFingerprint(t *testing.T) {
	set := func(url string) auth.Key { return must(auth.JWKS(t.Context(), url, slog.New(slog.DiscardHandler))) }
	print := func(k auth.Key) string { return newJWT(t, auth.Config{Keys: []auth.Key{k}}).Fingerprint() }
	for _, test := range []struct {
		name string
		key  auth.Key
		want string
	}{
		{"secret", must(auth.Secret(bytes.Repeat([]byte("x"), 32))), "secret-f1420e12b6f1b886"},
		{"P-256", must(auth.PublicKey(pkix(&ecKey.PublicKey))), print(must(auth.PublicKey(certificate())))},
		{"RSA", must(auth.PublicKey(pkix(&rsaKey.PublicKey))), print(must(auth.PublicKey(pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)))))},
		{"JWKS", set("http://ann:hidden@127.0.0.1:1/keys.json?token=hidden"), "http://127.0.0.1:1/keys.json"},
	} {
		if got := print(test.key); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	several := func(keys ...auth.Key) string { return newJWT(t, auth.Config{Keys: keys}).Fingerprint() }
	one, two := must(auth.Secret(secret)), must(auth.PublicKey(certificate()))
	if a, b := several(one, two, set("http://127.0.0.1:1/x")), several(set("http://127.0.0.1:1/x"), two.WithKID("2"), one, one); a != b || strings.Count(a, "+") != 2 {
		t.Errorf("the same keys in another order have the fingerprints %q and %q", a, b)
	}
	if a, b := several(one, set("http://127.0.0.1:1/"+strings.Repeat("x", 230))), several(two, set("http://127.0.0.1:1/"+strings.Repeat("x", 230))); a == b || len(a) != len("keys-")+16 {
		t.Errorf("two long lists of keys have the fingerprints %q and %q", a, b)
	}
	if a, b := print(must(auth.Secret(bytes.Repeat([]byte("x"), 32)))), print(must(auth.Secret(bytes.Repeat([]byte("x"), 33)))); a == b {
		t.Errorf("two secrets have the fingerprint %q", a)
	}
	if a, b := print(must(auth.PublicKey(pkix(&ecKey.PublicKey)))), print(must(auth.PublicKey(pkix(edKey.Public())))); a == b || !strings.HasPrefix(a, "public-") {
		t.Errorf("two public keys have the fingerprints %q and %q", a, b)
	}
}

func TestForgedTokens(t *testing.T) {
	file := pkix(&rsaKey.PublicKey)
	byRSA := newJWT(t, auth.Config{Keys: []auth.Key{must(auth.PublicKey(file))}})
	bySecret := newJWT(t, auth.Config{})
	good := hs256(alice)
	head, rest, _ := strings.Cut(good, ".")
	body, sig, _ := strings.Cut(rest, ".")
	other := strings.Split(hs256(`{"sub":"bob"}`), ".")
	for _, tt := range []struct {
		name  string
		j     *auth.JWT
		token string
		want  string
	}{
		{"HS256 with the public key as secret", byRSA, sign(`{"alg":"HS256"}`, alice, file), "algorithm not accepted"},
		{"another secret", bySecret, sign(`{"alg":"HS256"}`, alice, []byte("another")), "signature mismatch"},
		{"another RSA key", byRSA, sign(`{"alg":"RS256"}`, alice, weakRSA), "signature mismatch"},
		{"no signature", bySecret, head + "." + body + ".", "signature mismatch"},
		{"claims of another token", bySecret, head + "." + other[1] + "." + sig, "signature mismatch"},
		{"none in unusual case", bySecret, strings.Replace(sign(`{"alg":"none"}`, alice, jwt.UnsafeAllowNoneSignatureType), head, "eyJhbGciOiJOb25lIn0", 1), "algorithm not accepted"},
		{"crit", bySecret, sign(`{"alg":"HS256","crit":["b64"],"b64":true}`, alice, secret), "crit header not supported"},
		{"crit null", bySecret, sign(`{"alg":"HS256","crit":null}`, alice, secret), "crit header not supported"},
		{"kid of another type", bySecret, sign(`{"alg":"HS256","kid":1}`, alice, secret), "kid not a string"},
		{"no alg", bySecret, "e30." + body + "." + sig, "algorithm not accepted"},
		{"alg of another type", bySecret, "eyJhbGciOjF9." + body + "." + sig, "algorithm not accepted"},
		{"header null", bySecret, "bnVsbA." + body + "." + sig, "algorithm not accepted"},
		{"two parts", bySecret, head + "." + body, "not a JWT"},
		{"four parts", bySecret, good + ".x", "not a JWT"},
		{"padding", bySecret, good + "=", "not a JWT"},
		{"spare bits in the signature", bySecret, good[:len(good)-1] + next(good[len(good)-1]), "not a JWT"},
		{"8 KiB and a byte", bySecret, strings.Repeat("x", 8<<10+1), "too long ("},
		{"8 KiB", bySecret, strings.Repeat("x", 8<<10), "not a JWT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := tt.j.Authenticate(bearer(tt.token))
			check(t, err, auth.ErrBadToken, tt.want)
			if u.ID != "" {
				t.Errorf("got user %q with an error, want none", u.ID)
			}
		})
	}
}

// next returns the base64url letter after c. If c is the last letter of an encoded 32-byte
// signature, the two letters differ only in an unused bit.
func next(c byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return letters[strings.IndexByte(letters, c)+1:][:1]
}

func TestInvalidKeys(t *testing.T) {
	if _, err := auth.Secret(secret[:31]); err == nil || !strings.Contains(err.Error(), "auth: secret too short (31 bytes, minimum 32)") {
		t.Errorf("31 bytes of secret: got %v, want an error", err)
	}
	if _, err := auth.Secret([]byte("-----BEGIN CERTIFICATE-----\nMIIB")); err == nil || err.Error() != "auth: secret is a PEM file: use it as a public key" {
		t.Errorf("PEM file as secret: got %v, want an error", err)
	}
	good, set := must(auth.Secret(secret)), must(auth.JWKS(t.Context(), "http://127.0.0.1:1/", slog.New(slog.DiscardHandler)))
	for want, keys := range map[string][]auth.Key{
		"auth: missing key":                    nil,
		"auth: missing key ":                   {good, {}},
		"auth: too many keys (17, maximum 16)": slices.Repeat([]auth.Key{good}, 17),
		"auth: more than one JWK Set":          {set, good, set},
	} {
		if j, err := auth.New(auth.Config{Keys: keys}); j != nil || err == nil || err.Error() != strings.TrimSpace(want) {
			t.Errorf("%d keys: got %v and %v, want %s", len(keys), j, err, want)
		}
	}
	for want, file := range map[string][]byte{
		"public key not in PEM format":  []byte("ssh-ed25519 AAAA"),
		"more than one PEM block":       append(pkix(edKey.Public()), pkix(&ecKey.PublicKey)...),
		"private key found":             pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(edKey))),
		`unknown PEM block type "X"`:    pemOf("X", nil),
		"must be RSA of at least 2048 ": pkix(&weakRSA.PublicKey),
		", P-256 or":                    pkix(&p384.PublicKey),
		"parse public key":              pemOf("PUBLIC KEY", []byte("x")),
		"parse public key: x509":        pemOf("CERTIFICATE", []byte("x")),
	} {
		if _, err := auth.PublicKey(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	mine := append([]byte(nil), secret...)
	key := must(auth.Secret(mine))
	clear(mine)
	if _, err := newJWT(t, auth.Config{Keys: []auth.Key{key}}).Authenticate(bearer(hs256(alice))); err != nil {
		t.Errorf("the secret was not copied: %v", err)
	}
}
