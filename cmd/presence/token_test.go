package main

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/room"
)

// userOf verifies a token like a server with the same secret, and returns its user.
func userOf(t *testing.T, key, token string) auth.User {
	t.Helper()
	k, err := auth.Secret([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	j, err := auth.New(auth.Config{Keys: []auth.Key{k}, Issuer: "me", Audience: "presence"})
	if err != nil {
		t.Fatal(err)
	}
	user, err := j.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func TestToken(t *testing.T) {
	e := env{"PRESENCE_JWT_SECRET": secret, "PRESENCE_JWT_ISSUER": "me", "PRESENCE_JWT_AUDIENCE": "presence"}
	u := userOf(t, secret, must(t, e, "token", "--sub=alice", "--name=Alice", "--join=doc-*", "--join=lobby", "--send=doc-1,doc-2", `--info={"a": 1}`, "--admin", "--sid=tab-1"))
	if u.ID != "alice" || u.Name != "Alice" || string(u.Info) != `{"a":1}` || !u.Admin || u.SID != "tab-1" {
		t.Errorf("got %+v", u)
	}
	if !room.Patterns(u.Join).Match("doc-7") || !room.Patterns(u.Join).Match("lobby") || room.Patterns(u.Join).Match("x") || !room.Patterns(u.Send).Match("doc-2") || room.Patterns(u.Send).Match("doc-3") {
		t.Errorf("got rooms %v and %v", u.Join, u.Send)
	}
	if left := time.Until(u.Expires); left < 59*time.Minute || left > time.Hour+time.Second {
		t.Errorf("the token expires in %v, want an hour", left)
	}

	u = userOf(t, secret, must(t, e, "token", "--sub=bob", "--ttl=0s"))
	if !room.Patterns(u.Join).Match("lobby") || !room.Patterns(u.Send).Match("lobby") || room.Patterns(u.Join).Match("x") || u.Admin || !u.Expires.IsZero() {
		t.Errorf("got %+v, want only the lobby, and no expiry", u)
	}
}

// The command uses a secret byte for byte, except for line breaks at the end of a secret file.
func TestTokenSecret(t *testing.T) {
	odd := strings.Repeat("\xff\xfe ", 11)
	file := write(t, t.TempDir(), "secret", odd+"\r\n")
	for _, flag := range []string{"--jwt-secret=" + odd, "--jwt-secret-file=" + file} {
		if u := userOf(t, odd, must(t, nil, "token", "--sub=alice", "--jwt-issuer=me", "--jwt-audience=presence", flag)); u.ID != "alice" {
			t.Errorf("got %+v", u)
		}
	}
}

// The first secret file signs, also beside --jwt-secret. The token has no kid, because that would
// show the name of the file.
func TestTokenOfSeveralSecrets(t *testing.T) {
	dir, other := t.TempDir(), strings.Repeat("2", 32)
	first, second := write(t, dir, "first", strings.Repeat("1", 32)), write(t, dir, "second", other)
	for want, args := range map[string][]string{
		strings.Repeat("1", 32): {"--jwt-secret=" + secret, "--jwt-secret-file=" + first, "--jwt-secret-file=" + second},
		other:                   {"--jwt-secret-file=" + second, "--jwt-secret-file=" + first},
	} {
		token := must(t, nil, append([]string{"token", "--sub=alice", "--jwt-issuer=me", "--jwt-audience=presence"}, args...)...)
		if u := userOf(t, want, token); u.ID != "alice" {
			t.Errorf("%q: got %+v", args, u)
		}
		header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		if want := `{"alg":"HS256","typ":"JWT"}`; err != nil || string(header) != want {
			t.Errorf("got header %s, %v; want %s", header, err, want)
		}
	}
}
