package auth_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/auth"
)

func TestMint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Second / 2) // so that now is not a whole second
		now := time.Now().Truncate(time.Second)
		full := json.RawMessage(`"` + strings.Repeat("<", 1022) + `"`)
		for _, tt := range []struct {
			c    auth.Claims
			want auth.User
		}{
			{auth.Claims{Sub: "a"},
				auth.User{ID: "a", Info: json.RawMessage("{}"), Join: []string{"lobby"}, Send: []string{"lobby"}}},
			{auth.Claims{Sub: "a", Name: "A", SID: "s", Issuer: "us", Audience: "p", Join: []string{"*"}, Info: full, Admin: true, TTL: time.Minute},
				auth.User{ID: "a", Name: "A", SID: "s", Join: []string{"*"}, Info: full, Admin: true, Expires: now.Add(61 * time.Second)}},
			{auth.Claims{Sub: "a", Name: "A\u200b\n" + strings.Repeat("n", 127), Join: []string{}},
				auth.User{ID: "a", Name: "A" + strings.Repeat("n", 127), Info: json.RawMessage("{}")}},
			{auth.Claims{Sub: "a", Join: []string{}, TTL: 1},
				auth.User{ID: "a", Info: json.RawMessage("{}"), Expires: now.Add(time.Second)}},
		} {
			token, err := auth.Mint(secret, tt.c)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
			var claims struct{ Name string }
			if err := cmp.Or(err, json.Unmarshal(payload, &claims)); err != nil || claims.Name != tt.want.Name {
				t.Errorf("%+v: got %s, %v; want the name %q", tt.c, payload, err, tt.want.Name)
			}
			got, err := newJWT(t, auth.Config{Issuer: tt.c.Issuer, Audience: tt.c.Audience}).Authenticate(bearer(token))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v\ngot  %+v, %v\nwant %+v", tt.c, got, err, tt.want)
			}
		}
	})
}

func TestMintRejects(t *testing.T) {
	for _, c := range []auth.Claims{
		{},
		{Sub: "a\xff"},
		{Sub: "a\u200b"},
		{Sub: "a", Name: strings.Repeat("n", 129)},
		{Sub: "a", Info: json.RawMessage("{")},
		{Sub: "a", TTL: -1},
		{Sub: "a", SID: strings.Repeat("s", 8<<10)},
	} {
		if token, err := auth.Mint(secret, c); err == nil {
			t.Errorf("Mint of %.80v: got %s, want an error", c, token)
		}
	}
	if _, err := auth.Mint(secret[:31], auth.Claims{Sub: "a"}); err == nil {
		t.Error("31 bytes of secret: got no error")
	}
	if _, err := auth.Mint(secret, auth.Claims{Sub: "a", TTL: math.MaxInt64}); err != nil {
		t.Errorf("TTL of 292 years: got %v, want nil", err)
	}
}

func ExampleJWT() {
	secret := []byte("of at least 32 bytes, and random")
	token, err := auth.Mint(secret, auth.Claims{Sub: "alice", Join: []string{"doc-*"}, TTL: time.Hour})
	if err != nil {
		panic(err)
	}

	key, err := auth.Secret(secret)
	if err != nil {
		panic(err)
	}
	authenticator, err := auth.New(auth.Config{Keys: []auth.Key{key}})
	if err != nil {
		panic(err)
	}

	r := httptest.NewRequest("GET", "/events?room=doc-7", nil)
	_, err = authenticator.Authenticate(r)
	fmt.Println(err)

	r.Header.Set("Authorization", "Bearer "+token)
	user, err := authenticator.Authenticate(r)
	fmt.Println(user.ID, user.Join, err)

	forged, _ := auth.Mint([]byte("another one, of the same length."), auth.Claims{Sub: "alice"})
	r.Header.Set("Authorization", "Bearer "+forged)
	_, err = authenticator.Authenticate(r)
	fmt.Println(err)
	// Output:
	// no token
	// alice [doc-*] <nil>
	// invalid token: signature mismatch
}
