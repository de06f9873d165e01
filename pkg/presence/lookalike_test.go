package presence_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/pkg/presence"
)

// signed returns a token with this sub and name. Unlike auth.Mint, it does not check them.
func signed(t *testing.T, sub, name string) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": sub, "name": name, "presence": map[string]any{"join": []string{"*"}, "send": []string{"*"}},
	}).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// detailOf returns the detail of a problem document.
func detailOf(t *testing.T, answer *http.Response) string {
	t.Helper()
	var got struct{ Detail string }
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got.Detail
}

// lookAlikes are the invisible characters in the ranges of category Cf, and two joiners that are
// not between two non-ASCII characters.
var lookAlikes = []string{
	"a\u00adb", "a\u0600b", "a\u061cb", "a\u06ddb", "a\u070fb", "a\u180eb", "a\u200bb", "a\u200cb", "a\u200db", "a\u200eb", "a\u200fb",
	"a\u202ab", "a\u202bb", "a\u202cb", "a\u202db", "a\u202eb", "a\u2060b", "a\u2061b", "a\u2062b", "a\u2063b", "a\u2064b",
	"a\u2066b", "a\u2067b", "a\u2068b", "a\u2069b", "a\u206ab", "a\u206fb", "a\ufeffb", "a\ufff9b", "a\ufffbb", "a\U0001d173b", "a\U000e0001b",
	"\u200bab", "ab\ufeff", "\u200cab", "ab\u200d", "a🏴\U000e0067\U000e0062\U000e007fb",
}

// POST /messages rejects an event name that looks like another one.
func TestEventsThatLookAlike(t *testing.T) {
	const invalid = "event name must be 1 to 64 UTF-8 characters, without control or format characters or leading or trailing white space"
	const reserved = "event name reserved for the server or the browser"
	h := open(t, presence.Config{})
	want := map[string]string{
		"user count": reserved, "open": reserved, "error": reserved,
		"user\u00a0count": reserved, "user\u2003count": reserved, "join\ufe0f": reserved, "jo\u034fin": reserved, "\u3164sync": reserved, "open\U000e0100": reserved,
		"user count\u200b": invalid, "user count\ufeff": invalid, "jo\u200bin": invalid, "é\u200dé": invalid, "می\u200cخواهم": invalid,
		"a\u00a0": invalid, "\u3000a": invalid, "a\x7fb": invalid, "a\u0085b": invalid,
	}
	for _, name := range lookAlikes {
		want[name] = invalid
	}
	for name, detail := range want {
		body, err := json.Marshal(map[string]any{"event": name, "data": 1})
		if err != nil {
			t.Fatal(err)
		}
		answer := h.ask("POST", "/messages", bearer(t, "alice"), string(body), "Content-Type", "application/json")
		if got := detailOf(t, answer); answer.StatusCode != http.StatusBadRequest || got != detail {
			t.Errorf("event %q: got %s, %q; want 400, %q", name, answer.Status, got, detail)
		}
	}
}

// A token whose sub looks like another one is invalid. In a name, the characters that cause this
// are removed.
func TestUsersThatLookAlike(t *testing.T) {
	const detail = "invalid token: sub must be at most 256 bytes of UTF-8 without U+FFFD, control characters and " +
		"format characters (U+200C and U+200D are allowed between non-ASCII characters)"
	h := open(t, presence.Config{})
	for i, s := range append(lookAlikes, "a\ufffdb", "a\x00b", "a\u0085b") {
		answer := h.ask("GET", "/events", signed(t, s, ""), "")
		if got := detailOf(t, answer); answer.StatusCode != http.StatusUnauthorized || got != detail {
			t.Errorf("sub %q: got %s, %q; want 401, %q", s, answer.Status, got, detail)
		}

		want := "ab"
		if strings.Contains(s, "🏴") {
			want = "a🏴b"
		}
		token := signed(t, fmt.Sprint("user-", i), s)
		body, err := io.ReadAll(h.ask("GET", "/session", token, "").Body)
		if session := fmt.Sprintf(`{"user":{"id":"user-%d","name":%q,"admin":false},"guests":false}`+"\n", i, want); err != nil || string(body) != session {
			t.Errorf("GET /session with name %q: got %s, %v; want %s", s, body, err, session)
		}
		stream := h.stream(fmt.Sprint("/events?room=room-", i), token)
		member := fmt.Sprintf(`"members":[{"id":"user-%d","name":%q,`, i, want)
		if e := stream.next("sync"); !strings.Contains(e.data, member) {
			t.Errorf("sync with name %q: got %s, want %s", s, e.data, member)
		}
	}
}

// Emoji sequences and words with joiners pass byte for byte, and so do emoji in event names.
func TestTextWithJoinersIsUnchanged(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		for _, s := range []string{"👨\u200d👩\u200d👧", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3", "👍🏽", "می\u200cخواهم"} {
			h := open(t, presence.Config{})
			token := signed(t, s, s)
			stream := h.stream("/events", token)
			if e, want := stream.next("sync"), `"members":[{"id":"`+s+`","name":"`+s+`",`; !strings.Contains(e.data, want) {
				t.Errorf("sync: got %q, want %q", e.data, want)
			}
			for _, event := range []string{"❤\ufe0f", "1\ufe0f\u20e3", "👍🏽"} {
				h.post("/messages", token, `{"event":"`+event+`","data":"`+s+`"}`)
				if e, want := stream.next(event), `"from":{"id":"`+s+`","name":"`+s+`"},"data":"`+s+`",`; !strings.Contains(e.data, want) {
					t.Errorf("message %q: got %q, want %q", event, e.data, want)
				}
			}
		}
	})
}
