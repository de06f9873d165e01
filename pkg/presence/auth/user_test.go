package auth_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

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
		{ID: "a\u200b"},
		{ID: "a\ufffd"},
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
		"sub":  {ID: "a\u202e"},
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

// An id with a format character is rejected, and in a name the character is removed. Emoji
// sequences and Persian words keep their joiners.
func TestFormatCharacters(t *testing.T) {
	const rule = "invalid token: sub must be at most 256 bytes of UTF-8 without U+FFFD, control characters and " +
		"format characters (U+200C and U+200D are allowed between non-ASCII characters)"
	isRemoved := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) || r == unicode.ReplacementChar }
	for r := range rune(unicode.MaxRune + 1) {
		if !isRemoved(r) {
			continue
		}
		for _, s := range []string{string(r) + "a", "a" + string(r) + "b", "é" + string(r), "a" + string(r) + "é"} {
			if _, err := (auth.User{ID: s}).Checked(); err == nil || err.Error() != rule {
				t.Errorf("id %q: got %v, want %s", s, err, rule)
			}
			want := strings.ReplaceAll(s, string(r), "")
			if got, err := (auth.User{ID: "a", Name: s}).Checked(); err != nil || got.Name != want {
				t.Errorf("name %q: got %q, %v; want %q", s, got.Name, err, want)
			}
		}
	}
	for _, s := range []string{"👨\u200d👩\u200d👧", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3", "👍🏽", "می\u200cخواهم"} {
		if got, err := (auth.User{ID: s, Name: s}).Checked(); err != nil || got.ID != s || got.Name != s {
			t.Errorf("%q: got %+v, %v; want it unchanged", s, got, err)
		}
	}
	long := strings.Repeat("n", 128)
	for name, want := range map[string]string{
		"\u200b" + long + "\x00": long, // the limit applies after the removal
		"A\xff":                  "A",
		"\u200b\u200d":           "",
	} {
		if got, err := (auth.User{ID: "a", Name: name}).Checked(); err != nil || got.Name != want {
			t.Errorf("name %q: got %q, %v; want %q", name, got.Name, err, want)
		}
	}
}
