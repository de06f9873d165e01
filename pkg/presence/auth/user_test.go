package auth_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
)

func TestChecked(t *testing.T) {
	info := []byte(` { "a" : 1 } `)
	got, err := auth.User{ID: "a", Info: info, Expires: time.Unix(1, 0), Session: "s"}.Checked()
	clear(info)
	if err != nil || string(got.Info) != `{"a":1}` || got.Session != "s" || got.Expires.Unix() != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := (auth.User{ID: "a"}).Checked(); err != nil || string(got.Info) != "{}" {
		t.Errorf("no info: got %s, %v, want {}", got.Info, err)
	}
	blanks := json.RawMessage(strings.Repeat(" ", 5000) + "1")
	if got, err := (auth.User{ID: "a", Info: blanks}).Checked(); err != nil || string(got.Info) != "1" {
		t.Errorf("blanks: got %s, %v, want 1", got.Info, err)
	}
	for _, u := range []auth.User{
		{},
		{ID: "a\xff"},
		{ID: "a\r"},
		{ID: "a", Name: "\x7f"},
		{ID: "a", Info: json.RawMessage(" ")},
		{ID: "a", Info: json.RawMessage(`{} {}`)},
		{ID: "a", Info: json.RawMessage("\"\xff\"")},
	} {
		_, err := u.Checked()
		check(t, err, auth.ErrBadToken, "")
	}
}

// A claim outside its limits causes a ClaimError that names the claim, with a text for the client.
func TestClaimError(t *testing.T) {
	for claim, u := range map[string]auth.User{
		"sub":  {ID: "a\r"},
		"name": {ID: "a", Name: strings.Repeat("a", 129)},
		"info": {ID: "a", Info: json.RawMessage("{")},
	} {
		_, err := u.Checked()
		var bad *auth.ClaimError
		if !errors.As(err, &bad) || bad.Claim != claim || !errors.Is(err, auth.ErrBadToken) ||
			err.Error() != "invalid token: "+claim+" "+bad.Reason {
			t.Errorf("got %v (%#v), want a ClaimError for %s", err, bad, claim)
		}
	}
}
